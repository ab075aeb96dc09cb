"""The bench in small: every part measures, every count is right, and wrong counts end it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from tests.bench import ground, recount, stock
from tests.bench.__main__ import PARTS
from tests.bench.measured import BEGIN, END
from tests.bench.measured import measured as page_of

BENCH_SECONDS = 180
# Whether a few thousand rows are read whole is a matter of what the server thinks of its disk. Told that
# pages in any order cost nearly the same, as the local stack's is, it does so only where no index serves.
ANY_ORDER = "options=-c%20random_page_cost%3D1.1"


def measured(parts: set[str], kafka_bootstrap: str, database_server: str, output: Path) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.bench", "--scale", "smoke", "--output", str(output)),
            *("--only", ",".join(sorted(parts))),
        ],
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
    found: dict[str, Any] = orjson.loads(output.read_bytes())
    assert {"machine", "versions", "scale", "settings"} <= set(found)
    assert all(figure["value"]["median"] > 0 for figure in found["figures"])
    return found


@pytest.mark.timeout(BENCH_SECONDS + 20)
def test_every_part_measures_and_its_counts_are_right(
    kafka_bootstrap: str, database_server: str, tmp_path: Path
) -> None:
    assert set(PARTS) == {
        *("writer", "way", "gateway", "histogram", "latency", "memory", "queries", "growth", "disk"),
    }
    found = measured(set(PARTS) - {"queries"}, kafka_bootstrap, database_server, tmp_path / "bench.json")
    goals = {figure["goal"] for figure in found["figures"] if figure["goal"]}
    assert goals == {
        *("writer", "way", "way_plain", "gateway_one", "gateway_many", "histogram_minute", "histogram_hour"),
        *("latency_half", "memory_gateway", "memory_writer", "memory_api"),
    }


@pytest.mark.timeout(BENCH_SECONDS + 20)
def test_no_kind_of_question_reads_a_chunk_of_events_whole(
    kafka_bootstrap: str, database_server: str, tmp_path: Path
) -> None:
    output = tmp_path / "bench.json"
    told = f"{database_server}{'&' if '?' in database_server else '?'}{ANY_ORDER}"
    found = measured({"queries"}, kafka_bootstrap, told, output)
    asked = [figure["facts"] for figure in found["figures"]]
    assert {figure["goal"] for figure in found["figures"]} == {"query", "query_hours", None}
    for facts in asked:
        assert facts["indexes"], facts
        assert "events" not in facts["sequential"], facts
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    page_of(output, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before")
    assert "old" not in text
    assert all(f"| {facts['kind']} |" in text for facts in asked)


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


async def test_node_reports_lie_as_they_came(database_dsn: str) -> None:
    """In the order of their moments: those of one node are far apart, and as dear to read as they are."""
    connection = await ground.connected(database_dsn)
    try:
        await connection.execute(stock._REPORTS, "0" * 24, datetime.now(UTC), 1, 50)
        rows = await connection.fetch("SELECT observed_at FROM node_reports ORDER BY tableoid, ctid")
    finally:
        await connection.close(timeout=5)
    lying = [row["observed_at"] for row in rows]
    assert len(lying) > 50_000
    assert lying == sorted(lying)
