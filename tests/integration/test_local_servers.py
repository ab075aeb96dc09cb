"""The servers of the local stack start, end, and come back from kill -9 with what they had acknowledged."""

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.local import kafka, timescale
from deploy.local.kafka import KafkaServer
from deploy.local.ports import free_port, is_free
from deploy.local.timescale import TimescaleServer
from schema.connections import new_producer
from schema.errors import Unavailable
from schema.topics import ensure_topics
from tests.support.servers import new_kafka, new_timescale, temporary_folder
from tests.support.topics import TopicNames, delete_topics, unique_prefix

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaServer]:
    with new_kafka() as server:
        yield server


@pytest.fixture(scope="module")
def database() -> Iterator[TimescaleServer]:
    # As people run it, with fsync.
    with new_timescale({"fsync": "on", "full_page_writes": "on"}) as server:
        yield server


async def published(broker: KafkaServer, names: TopicNames, value: bytes) -> int:
    """Publish one record, acknowledged; returns its offset."""
    settings = names.settings(broker.bootstrap)
    producer = new_producer(settings)
    await asyncio.wait_for(producer.start(), 20)
    try:
        record = await asyncio.wait_for(producer.send_and_wait(names.events, value, partition=0), 20)
        return int(record.offset)
    finally:
        await asyncio.wait_for(producer.stop(), 10)


def rows(server: TimescaleServer) -> int:
    with psycopg.connect(server.dsn, connect_timeout=5) as connection:
        answer = connection.execute("SELECT count(*) FROM readings").fetchone()
    assert answer is not None
    return int(answer[0])


def add_row(server: TimescaleServer) -> None:
    with psycopg.connect(server.dsn, connect_timeout=5) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS readings (at timestamptz NOT NULL)")
        connection.execute("INSERT INTO readings SELECT now()")


async def test_kafka_keeps_what_it_acknowledged(broker: KafkaServer) -> None:
    names = TopicNames(unique_prefix())
    settings = names.settings(broker.bootstrap)
    assert sorted(await ensure_topics(settings)) == sorted([names.events, names.dead_letters])
    assert await published(broker, names, b"before") == 0
    first = broker.pid
    broker.kill()
    assert not psutil.pid_exists(first or 0)
    broker.start()
    assert broker.pid not in (None, first)
    assert await published(broker, names, b"after a kill") == 1
    assert broker.stop()
    broker.start()
    assert await ensure_topics(settings) == []
    assert await published(broker, names, b"after a stop") == 2
    assert sorted(await delete_topics(broker.bootstrap, names.prefix)) == sorted(
        [names.events, names.dead_letters]
    )


def test_kafka_writes_a_log_and_listens_on_loopback_only(broker: KafkaServer) -> None:
    assert "Kafka Server started" in broker.log.read_text(encoding="utf-8")
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(broker.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_second_start_is_refused(broker: KafkaServer, database: TimescaleServer) -> None:
    with pytest.raises(Unavailable, match=f"Kafka runs already, as process {broker.pid}"):
        broker.start()
    with pytest.raises(Unavailable, match=f"PostgreSQL runs already, as process {database.pid}"):
        database.start()


def test_a_server_is_found_again_by_its_folder(broker: KafkaServer, database: TimescaleServer) -> None:
    other = KafkaServer(broker.data_directory, broker.port, broker.controller_port)
    assert other.pid == broker.pid
    same = TimescaleServer(database.data_directory, database.port)
    assert same.pid == database.pid
    assert same.dsn == database.dsn


def test_the_database_is_timescale_on_loopback_with_a_password(database: TimescaleServer) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        version = connection.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
        settings: dict[str, str] = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN"
                " ('jit', 'fsync', 'listen_addresses', 'password_encryption')"
            ).fetchall()
        )
        zone = connection.execute("SELECT now() AT TIME ZONE 'Asia/Kolkata' IS NOT NULL").fetchone()
    assert version is not None
    assert version[0].startswith("2.19.")
    assert zone == (True,)
    assert settings == {
        "jit": "off",
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "password_encryption": "scram-sha-256",
    }
    secret = database.data_directory / "superuser-password"
    assert secret.stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(
            database.dsn.replace(secret.read_text(encoding="ascii").strip(), "guess"), connect_timeout=5
        )


def test_the_database_keeps_what_was_committed(database: TimescaleServer) -> None:
    add_row(database)
    before = rows(database)
    database.kill()
    assert database.pid is None
    database.start()
    assert rows(database) == before
    assert database.stop()
    database.start()
    assert rows(database) == before


def test_a_stuck_process_of_a_killed_database_does_not_stop_the_next_start(database: TimescaleServer) -> None:
    add_row(database)
    before = rows(database)
    postmaster = psutil.Process(database.pid)
    stuck = next(child for child in postmaster.children() if "checkpointer" in " ".join(child.cmdline()))
    stuck.suspend()
    # Only the postmaster, from outside, as the kernel's out-of-memory killer would.
    postmaster.kill()
    deadline = time.monotonic() + 10
    while database.pid is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    began = time.monotonic()
    database.start()
    assert time.monotonic() - began < 30
    with suppress(psutil.NoSuchProcess):
        assert stuck.status() == psutil.STATUS_ZOMBIE
    assert rows(database) == before


def test_a_pid_file_that_names_somebody_else_does_not_stop_the_next_start(database: TimescaleServer) -> None:
    add_row(database)
    before = rows(database)
    database.kill()
    pid_file = database.data_directory / "cluster" / "postmaster.pid"
    lines = pid_file.read_text(encoding="utf-8").splitlines()
    # A number that was used again: here, by a process of the very user that PostgreSQL runs as.
    account = database._account
    become = [] if account is None else ["setpriv", *account.become, "--"]
    with subprocess.Popen([*become, "sleep", "60"], cwd="/") as somebody:
        try:
            pid_file.write_text("\n".join([str(somebody.pid), *lines[1:]]) + "\n", encoding="utf-8")
            database.start()
            assert rows(database) == before
        finally:
            somebody.kill()


def test_no_start_without_end_when_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken, temporary_folder("taken") as folder:
        port = taken.getsockname()[1]
        server = TimescaleServer(folder, port)
        with pytest.raises(
            Unavailable, match=r"(?s)PostgreSQL ended while it started.*Address already in use"
        ):
            server.start()
        assert server.pid is None


def test_servers_die_with_a_parent_that_was_killed_whichever_thread_started_them() -> None:
    script = textwrap.dedent(
        """
        import sys, threading, time
        from pathlib import Path
        from deploy.local.kafka import KafkaServer
        from deploy.local.timescale import TimescaleServer
        folder = Path(sys.argv[1])
        first, second, third = [int(port) for port in sys.argv[2:]]
        servers = [KafkaServer(folder / "kafka", first, second, 256), TimescaleServer(folder / "db", third)]
        threads = [threading.Thread(target=server.start) for server in servers]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        time.sleep(0.5)
        print(*(server.pid for server in servers), flush=True)
        time.sleep(120)
        """
    )
    with temporary_folder("orphans") as folder:
        ports = [str(free_port()) for _ in range(3)]
        parent = subprocess.Popen(
            [sys.executable, "-c", script, str(folder), *ports], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        with parent.stdout as output:
            children = [psutil.Process(int(word)) for word in output.readline().split()]
            assert len(children) == 2
            assert all(child.is_running() for child in children)
            parent.send_signal(signal.SIGKILL)
            parent.wait(10)
            _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
        assert all(is_free(int(port)) for port in ports)


def test_a_detached_server_outlives_its_parent() -> None:
    script = (
        "import sys; from pathlib import Path; from deploy.local.timescale import TimescaleServer;"
        "TimescaleServer(Path(sys.argv[1]), int(sys.argv[2])).start(detached=True)"
    )
    with temporary_folder("detached") as folder:
        port = free_port()
        subprocess.run([sys.executable, "-c", script, str(folder), str(port)], check=True, timeout=60)
        server = TimescaleServer(folder, port)
        try:
            assert server.pid is not None
            add_row(server)
            assert rows(server) == 1
        finally:
            assert server.stop()
        assert server.pid is None


def test_installing_again_costs_nothing() -> None:
    began = time.monotonic()
    assert kafka.is_installed(kafka.install())
    assert timescale.is_installed(timescale.install())
    assert time.monotonic() - began < 1


def test_a_server_that_is_not_installed_names_the_way(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make setup"):
        KafkaServer(tmp_path, 1, 2, program=tmp_path / "nothing").start()
    with pytest.raises(Unavailable, match="make setup"):
        TimescaleServer(tmp_path, 1, program=tmp_path / "nothing").start()
