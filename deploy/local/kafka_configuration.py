"""What the local broker and its Java are told.

Neighbours: `kafka` writes the properties into the broker's folder at every start.
Guarantee: the promises that the rest of Weir relies on hold here too: nothing is elected that lacks
acknowledged records, no topic comes into being by a slip of the pen.
"""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.ports import LOOPBACK

MIB = 1024 * 1024
MAX_MESSAGE_BYTES = 4 * MIB
FIRST_HEAP_MB = 128


def broker_properties(
    log_directory: Path, port: int, controller_port: int, changes: Mapping[str, str] | None = None
) -> str:
    """The text of server.properties for one node, broker and controller: ours, then the caller's changes."""
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": log_directory,
        # One node has one copy of everything.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # Fifty partitions of offsets for a handful of groups only lengthen every start.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "unclean.leader.election.enable": "false",
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        # A lone writer should not wait three seconds for others to join its group.
        "group.initial.rebalance.delay.ms": 0,
        # Lets a test notice a dead consumer sooner than the usual six seconds.
        "group.min.session.timeout.ms": 1000,
        # After a kill, the broker that starts again has to wait for its own former session to end.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # The usual 128 MiB for compaction is a quarter of this heap.
        "log.cleaner.dedupe.buffer.size": 16 * MIB,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        # A deleted topic gives its disk back soon.
        "log.segment.delete.delay.ms": 1000,
        **(changes or {}),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def java_options(heap_mb: int, log: Path, logging: Path) -> list[str]:
    """Java's options: a bounded heap with short pauses, logs where we want them, an end instead of a limp."""
    return [
        f"-Xms{min(FIRST_HEAP_MB, heap_mb)}m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
        # The optimising compiler costs a young, small broker more than it gives.
        "-XX:TieredStopAtLevel=1",
        # A broker out of memory that lingers would look like a slow one.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Dlog4j2.configurationFile={logging}",
        "-Dlog4j2.disableJmx=true",
        f"-Dweir.kafka.log={log}",
    ]
