"""The chaos campaign's hold on a database server that was given: found, killed, started again, left alone."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import psycopg
import pytest

from schema.errors import Unavailable
from tests.chaos.given import Reach, given_database
from tests.support.servers import new_timescale

START = """
import sys
from pathlib import Path
from deploy.local.timescale import TimescaleServer
TimescaleServer(Path(sys.argv[1]), int(sys.argv[2])).start(detached=True)
"""


def databases(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def test_a_given_server_is_killed_and_started_again() -> None:
    with new_timescale() as server:
        command = shlex.join([sys.executable, "-c", START, str(server.data_directory), str(server.port)])
        reach = Reach(server.data_directory / "cluster" / "postmaster.pid", command)
        dsn = server.dsn_of("postgres")
        before = databases(dsn)
        with given_database(dsn, reach) as given:
            assert given.pid == server.pid
            assert len(databases(given.dsn) - before) == 1
            given.kill()
            assert given.pid is None
            # What a campaign leaves lying is started again at its end, so that its database can be dropped.
        assert databases(dsn) == before


def test_a_server_out_of_reach_is_only_asked(database_server: str) -> None:
    with given_database(database_server, Reach()) as given:
        given.kill()
        given.start()
        assert given.pid is None
        assert databases(given.dsn)


def test_a_file_of_another_server_is_refused(
    database_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = databases(database_server)
    with pytest.raises(Unavailable, match="names no postmaster"):  # noqa: SIM117
        with given_database(database_server, Reach(tmp_path / "postmaster.pid")):
            raise AssertionError("not entered")
    monkeypatch.setattr("tests.chaos.given.MOST_DISK_BYTES", 1)
    with pytest.raises(Unavailable, match="too large to be filled"):  # noqa: SIM117
        with given_database(database_server, Reach(disk=tmp_path)):
            raise AssertionError("not entered")
    assert databases(database_server) == before
