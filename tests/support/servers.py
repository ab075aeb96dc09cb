"""The servers that a run of the tests uses: given by address, or started for it.

Neighbours: `tests/conftest.py` makes session fixtures of these.
Guarantee: what was started here is gone when the block ends, or, should the test runner be killed, with it;
and no secret is in what it logged.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import kafka, timescale
from deploy.local.kafka import KafkaServer
from deploy.local.ports import free_port
from deploy.local.timescale import TimescaleServer
from tests.support import secret_search
from tests.support.databases import dsn_of

DATABASE_VARIABLE = "WEIR_TEST_DATABASE_DSN"
KAFKA_VARIABLE = "WEIR_TEST_KAFKA_BOOTSTRAP"
KAFKA_HEAP_MB = 384
STOP_SECONDS = 10.0

# A run's data is thrown away, so it need not survive a power cut. It still survives kill -9 of the server:
# what a process wrote is the kernel's, whether or not it was flushed to the disk.
QUICK_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "256MB",
    "log_min_messages": "warning",
}


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder that servers running as another user can enter, which pytest's own folders do not allow."""
    folder = Path(tempfile.mkdtemp(prefix=f"weir-{purpose}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def kafka_for_tests() -> Iterator[str]:
    """The bootstrap address of the broker to test with."""
    given = os.environ.get(KAFKA_VARIABLE)
    if given:
        yield given
        return
    with new_kafka() as server:
        yield server.bootstrap


@contextmanager
def database_server_for_tests() -> Iterator[str]:
    """A superuser's DSN of the server to test with; its database is not touched."""
    given = os.environ.get(DATABASE_VARIABLE)
    if given:
        yield given
        return
    with new_timescale() as server:
        yield dsn_of(server.dsn, "postgres")


@contextmanager
def new_kafka(
    settings: dict[str, str] | None = None, *, port: int | None = None, controller_port: int | None = None
) -> Iterator[KafkaServer]:
    """A broker of one's own, running, with an empty log: for tests that stop, freeze or kill it."""
    kafka.install()
    with temporary_folder("kafka") as folder:
        server = KafkaServer(
            folder,
            port or free_port(),
            controller_port or free_port(),
            heap_mb=KAFKA_HEAP_MB,
            settings=settings,
        )
        try:
            server.start()
            yield server
        finally:
            server.stop(STOP_SECONDS)
        _search(server.log)


@contextmanager
def new_timescale(settings: dict[str, str] | None = None) -> Iterator[TimescaleServer]:
    """A database server of one's own, running, with an empty cluster: for tests that stop or kill it."""
    timescale.install()
    with temporary_folder("timescale") as folder:
        server = TimescaleServer(folder, free_port(), settings={**QUICK_SETTINGS, **(settings or {})})
        try:
            server.start()
            yield server
        finally:
            server.stop(STOP_SECONDS)
        _search(server.log)


def _search(log: Path) -> None:
    """Fails where a server has logged a secret, as a statement that failed, say."""
    found = secret_search.secrets_in(log.read_text(errors="replace")) if log.exists() else []
    assert not found, f"secrets in {log}: {found}"
