"""The fixtures of the suite: the two servers once a run, a database and topics of its own for each test.

    kafka_bootstrap ──▶ topic_prefix ──▶ topics
    database_server ──▶ template_database ──▶ database_dsn

`WEIR_TEST_KAFKA_BOOTSTRAP` and `WEIR_TEST_DATABASE_DSN` (a superuser's) give servers instead; what the tests
make there has names of its own and is removed again.

Whatever a test prints or logs is searched for secrets when it ends; a test that left one there has failed.
"""

from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from schema.migrations.migrate import upgrade
from tests.support import databases, secret_search, servers
from tests.support.topics import TopicNames, delete_topics, unique_prefix

secret_search.watch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search what a test wrote, once it has written all of it."""
    report = yield
    if call.when == "teardown" and report.passed:
        found = secret_search.secrets_in("\n".join(text for _, text in report.sections))
        if found:
            report.outcome = "failed"
            report.longrepr = f"secrets in what the test printed or logged: {', '.join(found)}"
    return report


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their length: some hold time or chance, and all workers must collect the same."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """The address of the run's broker. Do not stop it: see `servers.new_kafka`."""
    with servers.kafka_for_tests() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def database_server() -> Iterator[str]:
    """A superuser's DSN of the run's database server. Do not stop it: see `servers.new_timescale`."""
    with servers.database_server_for_tests() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template_database(database_server: str) -> Iterator[str]:
    """The name of a database migrated to the newest revision, which nobody can connect to: clone it."""
    with databases.new_database(database_server, "template") as name:
        upgrade(databases.dsn_of(database_server, name))
        databases.close_to_connections(database_server, name)
        yield name


@pytest.fixture
def database_dsn(database_server: str, template_database: str) -> Iterator[str]:
    """A superuser's DSN of a migrated database of the test's own."""
    with databases.clone_of(database_server, template_database) as dsn:
        yield dsn


@pytest.fixture
def empty_database_dsn(database_server: str) -> Iterator[str]:
    """A superuser's DSN of a database of the test's own that was never migrated."""
    with databases.new_database(database_server, "empty") as name:
        yield databases.dsn_of(database_server, name)


@pytest.fixture
async def topic_prefix(kafka_bootstrap: str) -> AsyncIterator[str]:
    """A prefix for topics of the test's own; all topics that begin with it are deleted afterwards."""
    prefix = unique_prefix()
    yield prefix
    await delete_topics(kafka_bootstrap, prefix)


@pytest.fixture
def topics(topic_prefix: str) -> TopicNames:
    """Names below the prefix; `ensure_topics(topics.settings(kafka_bootstrap))` makes them."""
    return TopicNames(topic_prefix)
