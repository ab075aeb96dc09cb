"""Bytes on disk for each stored event: rows, each index, rollups, what the log and Kafka took on the way.

Where the edition can compress, the chunks are compressed afterwards and measured again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncpg

from tests.bench import ground
from tests.bench.arithmetic import summary
from tests.bench.figures import Figure, say
from tests.bench.ground import Ground, Plot
from tests.bench.scale import Scale
from tests.bench.watching import topic_ends
from tests.bench.way import Way, opened
from tests.bench.workload import Shape

_STORED_SECONDS = 600.0
# Of every chunk of a table: its rows (with what is kept beside them), and each index by its own name.
_SIZES = """
SELECT sum(pg_table_size(chunk))::bigint AS rows,
       sum(pg_total_relation_size(chunk))::bigint AS total
FROM show_chunks($1::regclass) AS chunk
"""
_INDEX_SIZES = """
SELECT regexp_replace(c.relname, '^_hyper_[0-9]+_[0-9]+_chunk_', '') AS name,
       sum(pg_relation_size(c.oid))::bigint AS bytes
FROM show_chunks('events') AS chunk
JOIN pg_index AS i ON i.indrelid = chunk JOIN pg_class AS c ON c.oid = i.indexrelid
GROUP BY 1 ORDER BY 1
"""
_ROLLUPS = ("event_counts_minute", "event_counts_hour", "event_counts_day")
_COMPRESS = "SELECT compress_chunk(chunk) FROM show_chunks('events') AS chunk"
_COMPRESSED = """
SELECT sum(after_compression_total_bytes)::bigint FROM hypertable_compression_stats('events')
"""


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """Stored; where the edition has it, compressed. Raises Void."""
    size = max(1, scale.disk_events // Shape().events_of_request)
    # A template for each request: data that come again would be compressed to almost nothing.
    shape = replace(Shape(), templates=size)
    async with ground.plot(where) as plot, opened(plot, shape, settings) as way:
        position = await way.connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        await way.run(range(size))
        await way.watch.wait(await topic_ends(plot.kafka_settings()), _STORED_SECONDS)
        wal = float(
            await way.connection.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", position)
        )
        edition = await way.connection.fetchval("SELECT edition FROM store_state")
        sizes = await _sizes(way.connection)
        kafka = _topic_bytes(plot)
        events = way.accepted
        figures = [
            Figure(
                f"disk: bytes an event, {edition} edition",
                summary([sum(sizes.values()) / events]),
                "bytes",
                facts={
                    "edition": edition,
                    "events": events,
                    **{f"{name}_bytes": round(taken / events, 1) for name, taken in sizes.items()},
                    "wal_bytes": round(wal / events, 1),
                    "kafka_bytes": None if kafka is None else round(kafka / events, 1),
                },
            )
        ]
        say(f"{figures[0].title}: {figures[0].value.median:.0f}, {figures[0].facts}")
        if edition == "community":
            figures.append(await _compressed(way, events))
    return figures


async def _sizes(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    row = await connection.fetchrow(_SIZES, "events")
    assert row is not None
    sizes = {"rows": row["rows"] or 0}
    for index in await connection.fetch(_INDEX_SIZES):
        sizes[index["name"]] = index["bytes"]
    for rollup in _ROLLUPS:
        # In the community edition these are views upon hypertables of their own.
        kept = await connection.fetchval(
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = $1",
            rollup,
        )
        taken = await connection.fetchrow(_SIZES, kept or rollup)
        assert taken is not None
        sizes[rollup] = taken["total"] or 0
    return sizes


async def _compressed(way: Way, events: int) -> Figure:
    await way.connection.fetch(_COMPRESS)
    taken = await way.connection.fetchval(_COMPRESSED)
    figure = Figure(
        "disk: bytes an event, compressed",
        summary([taken / events]),
        "bytes",
        facts={"edition": "community", "events": events},
    )
    say(f"{figure.title}: {figure.value.median:.0f}")
    return figure


def _topic_bytes(plot: Plot) -> int | None:
    """What the events topic's folders hold; None where the broker is not ours to look at."""
    kafka = plot.ground.kafka
    if kafka is None:
        return None
    logs = Path(kafka.data_directory).rglob(f"{plot.events_topic}-*/*.log")
    return sum(log.stat().st_blocks * 512 for log in logs)
