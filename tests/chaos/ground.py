"""What a campaign breaks: a Kafka and a database of its own, Weir's processes, and a proxy between each pair.

    client ─▶ gateway ─▶ Kafka ─▶ writer ─▶ database ◀─ API          (each arrow is a proxy)

Kafka tells its clients where to go on to, so each role has a listener of its own, whose announced
address is the proxy's. The tests' own questions go past all proxies. The servers' folders lie on small file
systems of their own where the campaign may mount some (`mounts`), so that a disk can be full. The database's
server may be a given one instead (`given`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import kafka, timescale
from deploy.local.kafka import KafkaServer
from deploy.local.ports import LOOPBACK, free_port
from deploy.local.timescale import TimescaleServer
from schema.migrations.migrate import upgrade
from schema.topics import ensure_topics
from tests.chaos.given import DatabaseServer, Reach, given_database
from tests.chaos.mounts import small_disk
from tests.chaos.slots import Slot, Slots
from tests.support.processes import deployed
from tests.support.proxy import Proxy, proxy_before
from tests.support.servers import KAFKA_HEAP_MB, STOP_SECONDS, temporary_folder
from tests.support.topics import TopicNames

ROLES = ("gateway", "writer", "api")
PLACES = {"gateway": 2, "writer": 2, "api": 1}
SESSION_SECONDS = 6.0
TRANSACTION_SECONDS = 10.0
# Short, so that maintenance, and what it does to running writers, is part of every round.
SETTINGS = {
    "gateway": {"WEIR_KEY_REFRESH_SECONDS": "5"},
    "writer": {
        "WEIR_SESSION_SECONDS": f"{SESSION_SECONDS:g}",
        "WEIR_TRANSACTION_SECONDS": f"{TRANSACTION_SECONDS:g}",
        "WEIR_MAINTENANCE_MARGIN_SECONDS": "15",
        "WEIR_LEDGER_SECONDS": "5",
        "WEIR_REFRESH_SECONDS": "5",
        # So that late events of every round meet compressed chunks (community edition).
        "WEIR_COMPRESS_AFTER_DAYS": "1",
    },
    "api": {},
}
# The disks of tests are thrown away, and what a killed server wrote is the kernel's.
QUICK_DATABASE = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "192MB"}
CAREFUL_DATABASE = {"shared_buffers": "192MB", "max_wal_size": "512MB"}
DISK_MIB = {"kafka": 3072, "database": 6144}


@dataclass(slots=True)
class Ground:
    """One deployment, and all that can be done to it. A path's name: ``writer-kafka``, ``writer-0-database``.

    ``disks``: the servers' folders that are file systems of their own, by server. ``library``: what makes a
    process's clock wrong.
    """

    kafka: KafkaServer
    database: DatabaseServer
    slots: Slots
    paths: dict[str, Proxy]
    disks: dict[str, Path]
    library: Path | None
    kafka_lock: asyncio.Lock
    database_lock: asyncio.Lock

    @property
    def dsn(self) -> str:
        """A superuser's way into the database, past the proxies."""
        return self.slots.weir.database_dsn

    @property
    def topics(self) -> TopicNames:
        return self.slots.weir.topics

    @property
    def doors(self) -> list[str]:
        """Where clients find the gateways."""
        places = range(len(self.slots.of("gateway")))
        return [f"http://{LOOPBACK}:{self.paths[f'client-gateway-{number}'].port}" for number in places]

    @property
    def api_url(self) -> str:
        """The query API, past the proxies."""
        return f"http://{LOOPBACK}:{self.slots.of('api')[0].port}"

    def stand_up(self) -> None:
        """Both servers running: a fault that failed may have left one lying."""
        for server in (self.kafka, self.database):
            if server.pid is None:
                server.kill()
                server.start()

    def heal_paths(self) -> None:
        """Let everything pass everywhere."""
        for proxy in self.paths.values():
            proxy.delay_seconds = 0.0
            proxy.thaw()


@contextmanager
def _running(proxy: Proxy) -> Iterator[Proxy]:
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def listener_settings(
    port: int, controller_port: int, inner: dict[str, int], outer: dict[str, int]
) -> dict[str, str]:
    """The broker's settings. ``inner``: the ports that it listens on by role; ``outer``: those announced."""
    names = {role: role.upper() for role in inner}
    own = f"PLAINTEXT://{LOOPBACK}:{port}"
    protocols = ",".join(f"{name}:PLAINTEXT" for name in (*names.values(), "PLAINTEXT", "CONTROLLER"))
    return {
        "listeners": ",".join(
            [own, f"CONTROLLER://{LOOPBACK}:{controller_port}"]
            + [f"{name}://{LOOPBACK}:{inner[role]}" for role, name in names.items()]
        ),
        "advertised.listeners": ",".join(
            [own] + [f"{name}://{LOOPBACK}:{outer[role]}" for role, name in names.items()]
        ),
        "listener.security.protocol.map": protocols,
    }


@asynccontextmanager
async def prepared(
    logs: Path, *, small_disks: bool, library: Path | None = None, given: tuple[str, Reach] | None = None
) -> AsyncIterator[Ground]:
    """Everything running and ready; gone when the block ends. ``logs``: folder of the processes' logs;
    ``given``: the DSN of a database server to use, and what of it is within reach.
    """
    with ExitStack() as stack:
        ground = await asyncio.to_thread(_built, stack, logs, library, given, small_disks=small_disks)
        await ensure_topics(ground.topics.settings(ground.kafka.bootstrap))
        for slot in ground.slots.every:
            await ground.slots.begin(slot)
        supervising = asyncio.create_task(ground.slots.supervise())
        try:
            await ground.slots.all_ready()
            yield ground
        finally:
            supervising.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervising
            ground.heal_paths()


def _built(
    stack: ExitStack,
    logs: Path,
    library: Path | None,
    given: tuple[str, Reach] | None,
    *,
    small_disks: bool,
) -> Ground:
    kafka.install()
    folder = stack.enter_context(temporary_folder("chaos"))
    homes = {name: folder / name for name in ("kafka", "database")}
    disks = {}
    for name, home in homes.items():
        home.mkdir()
        if small_disks and not (given and name == "database"):
            disks[name] = stack.enter_context(small_disk(home, DISK_MIB[name]))
        home.chmod(0o755)
    paths: dict[str, Proxy] = {}
    with ThreadPoolExecutor() as starting:
        brokered = starting.submit(_broker, stack, homes["kafka"], paths)
        database: DatabaseServer
        if given is None:
            database = _own_database(stack, homes["database"], careful=small_disks)
        else:
            database = stack.enter_context(given_database(*given))
            if database.disk is not None:
                disks["database"] = database.disk
        broker, outer = brokered.result()
    upgrade(database.dsn)
    names = TopicNames("weir-chaos")
    weir = stack.enter_context(deployed(broker.bootstrap, database.dsn, names, logs))
    slots = Slots(weir)
    for role in ROLES:
        for number in range(PLACES[role]):
            proxy, dsn = stack.enter_context(proxy_before(database.dsn))
            paths[f"{role}-{number}-database"] = proxy
            slot = Slot(
                role,
                number,
                {
                    **SETTINGS[role],
                    "WEIR_KAFKA_BOOTSTRAP": f"{LOOPBACK}:{outer[role]}",
                    "WEIR_DATABASE_DSN": dsn,
                },
            )
            slots.every.append(slot)
            if role == "gateway":
                paths[f"client-gateway-{number}"] = stack.enter_context(_running(Proxy(LOOPBACK, slot.port)))
    return Ground(
        broker, database, slots, paths, disks, library and library.absolute(), asyncio.Lock(), asyncio.Lock()
    )


def _broker(stack: ExitStack, home: Path, paths: dict[str, Proxy]) -> tuple[KafkaServer, dict[str, int]]:
    """Kafka, running, and the port of each role's proxy before it."""
    port, controller_port = free_port(), free_port()
    inner = {role: free_port() for role in ROLES}
    for role in ROLES:
        paths[f"{role}-kafka"] = stack.enter_context(_running(Proxy(LOOPBACK, inner[role])))
    outer = {role: paths[f"{role}-kafka"].port for role in ROLES}
    broker = KafkaServer(
        home,
        port,
        controller_port,
        heap_mb=KAFKA_HEAP_MB,
        settings=listener_settings(port, controller_port, inner, outer),
    )
    stack.callback(broker.stop, STOP_SECONDS)
    broker.start()
    return broker, outer


def _own_database(stack: ExitStack, home: Path, *, careful: bool) -> TimescaleServer:
    timescale.install()
    server = TimescaleServer(home, free_port(), settings=CAREFUL_DATABASE if careful else QUICK_DATABASE)
    stack.callback(server.stop, STOP_SECONDS)
    server.start()
    return server
