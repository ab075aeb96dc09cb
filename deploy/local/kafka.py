"""Apache Kafka on this machine: fetched with Maven, run as one combined broker and controller on loopback.

Neighbours: `pom.xml` says what it consists of, `versions` which; `kafka_configuration` holds its settings,
`kafka_probe` asks whether it serves; `server` runs the process.
Guarantee: `start` returns once the broker hands out its address, or raises; a folder that was killed in the
middle of anything starts again with what it had acknowledged.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.local.downloads import (
    Progress,
    ProgressCallback,
    installation_lock,
    new_folder,
    run_bounded,
    silent,
)
from deploy.local.kafka_configuration import broker_properties, java_options
from deploy.local.kafka_probe import broker_answers
from deploy.local.paths import Paths, local_paths
from deploy.local.ports import LOOPBACK
from deploy.local.server import ServerProcess
from deploy.local.versions import (
    JAVA_LEAST_VERSION,
    KAFKA_SCALA_SERIES,
    KAFKA_VERSION,
    LOG4J_VERSION,
    MAVEN_DEPENDENCY_PLUGIN_VERSION,
)
from schema.errors import Unavailable

HERE = Path(__file__).parent
INSTALL_SECONDS = 420.0
JAVA_SECONDS = 30.0
FORMAT_SECONDS = 60.0
START_SECONDS = 90.0
STOP_SECONDS = 10.0
# How many files Maven brings, its own plugin's included: only the progress bar believes it.
EXPECTED_DOWNLOADS = 130
COMPLETE = "complete"
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin"


def install(progress: ProgressCallback = silent, *, paths: Paths | None = None) -> Path:
    """Fetch Kafka's jars unless they are there; returns their folder.

    Raises:
        Unavailable: Java or Maven is missing (the message says what to install), or the download failed.
    """
    program = (paths or local_paths()).kafka_program
    if is_installed(program):
        return program
    with installation_lock(program.parent, timeout_seconds=INSTALL_SECONDS):
        if not is_installed(program):
            java_program()
            fetch(program, progress)
    progress(Progress("kafka", f"Apache Kafka {KAFKA_VERSION} is there", 1.0))
    return program


def is_installed(program: Path) -> bool:
    """Whether the folder holds all of this version's jars."""
    return (program / COMPLETE).is_file()


def fetch(program: Path, progress: ProgressCallback) -> None:
    """Let Maven copy all jars into `program`. It checks every file against the repository's checksum."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("Kafka is fetched with Maven, which is missing: apt-get install maven")
    seen = 0

    def count(line: str) -> None:
        nonlocal seen
        if "Downloaded from" in line:
            seen += 1
            file = re.sub(r"\s*\(.*", "", line).rsplit("/", 1)[-1]
            progress(Progress("kafka", file, min(seen / EXPECTED_DOWNLOADS, 0.99)))

    progress(Progress("kafka", f"fetching Apache Kafka {KAFKA_VERSION}", 0.0))
    with new_folder(program) as fresh:
        run_bounded(
            [
                *(maven, "--batch-mode", "--strict-checksums", "--file", str(HERE / "pom.xml")),
                f"-Dkafka.version={KAFKA_VERSION}",
                f"-Dscala.series={KAFKA_SCALA_SERIES}",
                f"-Dlog4j.version={LOG4J_VERSION}",
                f"-DoutputDirectory={fresh}",
                "-DincludeScope=runtime",
                f"{MAVEN_PLUGIN}:{MAVEN_DEPENDENCY_PLUGIN_VERSION}:copy-dependencies",
            ],
            timeout_seconds=INSTALL_SECONDS,
            purpose="fetching Kafka",
            on_line=count,
            directory=fresh,
        )
        if not list(fresh.glob(f"kafka_{KAFKA_SCALA_SERIES}-{KAFKA_VERSION}.jar")):
            raise Unavailable(f"Maven ended well, but brought no Kafka {KAFKA_VERSION}")
        (fresh / COMPLETE).touch()


def java_program() -> str:
    """The Java to run Kafka with: `JAVA_HOME`'s, else the one on the path.

    Raises:
        Unavailable: there is none, or it is too old; the message says what to install.
    """
    home = os.environ.get("JAVA_HOME")
    candidate = Path(home, "bin", "java") if home else None
    java = str(candidate) if candidate is not None and candidate.is_file() else shutil.which("java")
    remedy = "apt-get install default-jre-headless"
    if java is None:
        raise Unavailable(f"Kafka needs Java {JAVA_LEAST_VERSION}, and there is none: {remedy}")
    answer = subprocess.run(
        [java, "-version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=JAVA_SECONDS,
        errors="replace",
    )
    version = re.search(r'version "(\d+)', answer.stderr)
    if version is None or int(version[1]) < JAVA_LEAST_VERSION:
        raise Unavailable(f"Kafka needs Java {JAVA_LEAST_VERSION} or later; {java} is older: {remedy}")
    return java


class KafkaServer:
    """A broker of our own. One object a folder; `pid`, `stop` and `kill` also find one started elsewhere.

    In the folder: `log/` (the records), `server.log` (what it says, bounded), `server.properties` (written
    anew at every start).

    Args:
        data_directory: where all of that lies.
        port: of the broker's clients, on the loopback address.
        controller_port: of the controller, which the same process is.
        heap_mb: Java's memory at most.
        settings: broker settings that replace or complete ours, by name.
        program: where Kafka's jars lie, if not where they are fetched to.
    """

    def __init__(
        self,
        data_directory: Path,
        port: int,
        controller_port: int,
        heap_mb: int = 512,
        *,
        settings: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        self.data_directory = data_directory.absolute()
        self.port = port
        self.controller_port = controller_port
        self._settings = dict(settings or {})
        self.heap_mb = heap_mb
        self.log = self.data_directory / "server.log"
        self._program = program
        self._process = ServerProcess(
            "Kafka",
            record=self.data_directory / "process.json",
            output=self.data_directory / "output.log",
            end_signal=signal.SIGTERM,
        )

    @property
    def bootstrap(self) -> str:
        """Its address, as Kafka clients want it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process number while it runs."""
        return self._process.pid

    def start(self, *, detached: bool = False, timeout_seconds: float = START_SECONDS) -> None:
        """Start the broker and wait until it serves; a new folder is formatted first.

        Raises:
            Unavailable: not installed, running already, or not serving in time (its last words are in the
                message).
        """
        program = self._program or local_paths().kafka_program
        if not is_installed(program):
            raise Unavailable("Kafka is not installed yet: make setup")
        java = java_program()
        self.data_directory.mkdir(parents=True, exist_ok=True)
        properties = self.data_directory / "server.properties"
        properties.write_text(
            broker_properties(self.data_directory / "log", self.port, self.controller_port, self._settings),
            encoding="ascii",
        )
        classes = f"{program}/*"
        if not (self.data_directory / "log" / "meta.properties").is_file():
            self._format(java, classes, properties)
        self._process.begin(
            [
                *(java, *java_options(self.heap_mb, self.log, HERE / "log4j2.properties")),
                *("-cp", classes, "kafka.Kafka", str(properties)),
            ],
            environment=dict(os.environ),
            directory=self.data_directory,
            detached=detached,
        )
        self._process.wait_until(lambda: broker_answers(LOOPBACK, self.port), timeout_seconds=timeout_seconds)

    def stop(self, grace_seconds: float = STOP_SECONDS) -> bool:
        """Let it close its log and end; kill it after the grace. True if it ended by itself."""
        return self._process.end(grace_seconds=grace_seconds)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()

    def _format(self, java: str, classes: str, properties: Path) -> None:
        options = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        cluster = run_bounded(
            [java, *options, "-cp", classes, "kafka.tools.StorageTool", "random-uuid"],
            timeout_seconds=FORMAT_SECONDS,
            purpose="naming Kafka's cluster",
        )[-1]
        run_bounded(
            [
                *(java, *options, "-cp", classes, "kafka.tools.StorageTool", "format"),
                *("--config", str(properties), "--cluster-id", cluster, "--ignore-formatted"),
            ],
            timeout_seconds=FORMAT_SECONDS,
            purpose="formatting Kafka's folder",
        )
