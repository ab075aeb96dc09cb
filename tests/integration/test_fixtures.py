"""The fixtures themselves: each test has a database and topics of its own, and nothing is left behind."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from schema.migrations.migrate import newest_revision, upgrade
from schema.topics import ensure_topics
from tests.support.databases import clone_of, dsn_of
from tests.support.topics import TopicNames, delete_topics, unique_prefix


def one(dsn: str, query: str, *parameters: object) -> object:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def test_a_clone_is_migrated(database_dsn: str) -> None:
    assert one(database_dsn, "SELECT version_num FROM alembic_version") == newest_revision()
    report = upgrade(database_dsn)
    assert report.revision_before == report.revision_after == newest_revision()


def test_clones_are_apart_and_quick(database_server: str, template_database: str) -> None:
    began = time.monotonic()
    with (
        clone_of(database_server, template_database) as first,
        clone_of(database_server, template_database) as second,
    ):
        elapsed = time.monotonic() - began
        with psycopg.connect(first) as connection:
            connection.execute("CREATE TABLE only_here ()")
        assert one(second, "SELECT to_regclass('only_here')") is None
    assert elapsed < 10


def test_a_clone_goes_even_while_somebody_is_connected(database_server: str, template_database: str) -> None:
    with clone_of(database_server, template_database) as dsn:
        lingering = psycopg.connect(dsn)
        name = lingering.info.dbname
    lingering.close()
    assert one(database_server, "SELECT count(*) FROM pg_database WHERE datname = %s", name) == 0


def test_a_clone_has_the_templates_rights(
    database_server: str, template_database: str, database_dsn: str
) -> None:
    rights = (
        "SELECT coalesce(array_agg(format('%%s %%s', grantee::regrole, privilege_type) ORDER BY 1), '{}')"
        " FROM (SELECT grantee, privilege_type FROM pg_database, aclexplode(datacl)"
        " WHERE datname = %s AND grantee <> 0 AND grantee <> datdba ORDER BY 1, 2)"
    )
    clone = one(database_dsn, "SELECT current_database()")
    assert one(database_server, rights, clone) == one(database_server, rights, template_database) != []


def test_nobody_connects_to_the_template_not_even_timescales_scheduler(
    database_server: str, template_database: str
) -> None:
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    assert one(database_server, connected, template_database) == 0
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(dsn_of(database_server, template_database), connect_timeout=10)


async def listed(bootstrap: str, prefix: str, count: int) -> None:
    """Wait until as many topics begin with the prefix: a broker answers before all of it knows."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(10):
            while sum(name.startswith(prefix) for name in await admin.list_topics()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def test_topics_of_a_test_are_made_and_removed(kafka_bootstrap: str, topics: TopicNames) -> None:
    other = TopicNames(unique_prefix())
    for names in (topics, other):
        made = await ensure_topics(names.settings(kafka_bootstrap))
        assert made == [names.events, names.dead_letters]
        await listed(kafka_bootstrap, names.prefix, 2)
    removed = await delete_topics(kafka_bootstrap, other.prefix)
    assert sorted(removed) == sorted([other.events, other.dead_letters])
    await listed(kafka_bootstrap, other.prefix, 0)
    await listed(kafka_bootstrap, topics.prefix, 2)


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# A runner of tests that has started a process of ours, and waits.
RUNNER = """
import sys, time
from pathlib import Path
from tests.support.processes import Credentials, Weir
from tests.support.topics import TopicNames
folder = Path(sys.argv[1])
weir = Weir("127.0.0.1:9", "", TopicNames("none"), folder, Credentials("", "", "", ""))
agent = weir.start("agent", ready=False, WEIR_AGENT_KEY="k", WEIR_AGENT_BUFFER_PATH=str(folder / "buffer"))
print(agent.child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_processes_of_the_tests_die_with_a_runner_that_is_ended(
    tmp_path: Path, ending: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as runner:
        try:
            assert runner.stdout is not None
            process = psutil.Process(int(runner.stdout.readline()))
            # The launcher has asked the kernel by the time at which it becomes the command.
            until(lambda: process.name() != "setpriv", 10)
        finally:
            runner.send_signal(ending)
    _, alive = psutil.wait_procs([process], timeout=10)
    assert alive == []
