"""The bench in small: every part measures, every count is right, and wrong counts end it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import psycopg
import pytest

from tests.bench import ground, recount
from tests.bench.__main__ import PARTS

BENCH_SECONDS = 180


@pytest.mark.timeout(BENCH_SECONDS + 20)
def test_every_part_measures_and_its_counts_are_right(
    kafka_bootstrap: str, database_server: str, tmp_path: Path
) -> None:
    output = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--scale", "smoke", "--output", str(output)],
        env={
            **os.environ,
            "WEIR_TEST_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "WEIR_TEST_DATABASE_DSN": database_server,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=BENCH_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = orjson.loads(output.read_bytes())
    asked = [figure for figure in found["figures"] if "kind" in figure["facts"]]
    goals = [figure["goal"] for figure in found["figures"] if figure["goal"] and figure not in asked]
    assert goals == [
        *("writer", "way", "way_plain", "gateway_one", "gateway_many", "histogram_minute", "histogram_hour"),
        *("latency_half", "memory_gateway", "memory_writer", "memory_api"),
    ]
    assert all(figure["value"]["median"] > 0 for figure in found["figures"])
    assert {figure["goal"] for figure in asked} == {"query", "query_hours", None}
    for figure in asked:
        # Every kind of question is served by an index, however it was asked.
        assert "events" not in figure["facts"]["sequential"], figure["facts"]
        assert figure["facts"]["indexes"], figure["facts"]
    assert {"machine", "versions", "scale", "settings"} <= set(found)
    assert set(PARTS) == {"writer", "way", "gateway", "histogram", "latency", "memory", "queries"}


@pytest.mark.parametrize("table", ["events", "event_counts_minute", "event_counts_hour", "event_counts_day"])
async def test_one_count_too_many_voids_a_run(database_dsn: str, table: str) -> None:
    values = {
        "events": "(1, 'n', 'events', '', '', now(), 'id', now(), '', '{}')",
        "event_counts_minute": "(1, date_trunc('minute', now()), 'n', 0, 1)",
        "event_counts_hour": "(1, date_trunc('hour', now()), 'n', '', '', 0, 1)",
        "event_counts_day": "(1, date_trunc('day', now()), 'n', '', '', 0, 1)",
    }
    connection = await ground.connected(database_dsn)
    await recount.check_sums(connection, 0)
    with psycopg.connect(database_dsn) as writing:
        row = writing.execute("SELECT edition FROM store_state").fetchone()
        community = row == ("community",)
        if table != "events" and community:
            # There nobody can: the count is a continuous aggregate's.
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                writing.execute(f"INSERT INTO {table} DEFAULT VALUES")
            return
        writing.execute(f"INSERT INTO {table} VALUES {values[table]}")
    with pytest.raises(recount.Void):
        await recount.check_sums(connection, 0)
    if not community:
        # A continuous aggregate counts the row at once, so there the rungs agree with it.
        with pytest.raises(recount.Void):
            await recount.check_every_count(database_dsn)
    await connection.close(timeout=5)
