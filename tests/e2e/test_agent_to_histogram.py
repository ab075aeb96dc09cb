"""This machine's own events through the real gateway, Kafka, writer and database, to a histogram.

The agent is killed three times and the gateway once on the way; what the agent had promised itself, read
from its files while it was dead, is what must be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import orjson
import psycopg

from ingest.agent.segments import decode_lines, segment_numbers, segment_path
from tests.support import oracle
from tests.support.processes import Process, Weir, call, wait_ready

STORED_SECONDS = 30.0


def agent_of(weir: Weir, gateway: Process, *, ready: bool = False) -> Process:
    return weir.start(
        "agent",
        ready=ready,
        WEIR_AGENT_GATEWAY=gateway.url,
        WEIR_AGENT_KEY=weir.credentials.ingest_key,
        WEIR_AGENT_BUFFER_PATH=str(weir.folder / "buffer"),
        WEIR_AGENT_INTERVAL_SECONDS="1",
        WEIR_AGENT_SERVER_NAME="mill-1",
    )


def reborn(weir: Weir, gateway: Process) -> Process:
    """A new gateway at the address of the one that was killed."""
    process = weir.start("gateway", ready=False, WEIR_GATEWAY_PORT=str(gateway.port))
    process.port = gateway.port
    wait_ready(process)
    return process


def on_disk(folder: Path) -> dict[str, str]:
    """Id → name of the events in the agent's files."""
    items = [
        orjson.loads(line)
        for number in segment_numbers(folder)
        for line in decode_lines(segment_path(folder, number).read_bytes()).texts
    ]
    return {item["id"]: item["name"] for item in items}


async def until_begun(weir: Weir, folder: Path, lives: int) -> None:
    """Until an agent has noted its start so many times: on a busy machine a start takes a while."""
    deadline = time.monotonic() + STORED_SECONDS
    while True:
        noted: set[str] = set()
        # What has been sent goes while we look.
        with contextlib.suppress(FileNotFoundError):
            noted |= {identifier for identifier, name in on_disk(folder).items() if name == "agent.start"}
        with psycopg.connect(weir.database_dsn) as connection:
            noted |= {
                row[0] for row in connection.execute("SELECT id FROM events WHERE name = 'agent.start'")
            }
        if len(noted) >= lives:
            return
        assert time.monotonic() < deadline, f"{len(noted)} of {lives} starts were noted"
        await asyncio.sleep(0.1)


async def until_stored(weir: Weir, ids: set[str]) -> None:
    deadline = time.monotonic() + STORED_SECONDS
    while missing := ids - set(oracle.stored_ids(weir.database_dsn, weir.credentials.bucket_id)):
        assert time.monotonic() < deadline, f"{len(missing)} of {len(ids)} events are not stored"
        await asyncio.sleep(0.2)


async def test_this_machines_events_are_stored_once_through_kill_9_of_agent_and_gateway(weir: Weir) -> None:
    gateway = weir.start("gateway")
    weir.start("writer")
    api = weir.start("api")
    owed: dict[str, str] = {}
    folder = weir.folder / "buffer" / "events"
    for life in range(3):
        agent = agent_of(weir, gateway)
        await until_begun(weir, folder, life + 1)
        await asyncio.sleep(1.0)
        if life == 1:
            gateway.kill()
            await asyncio.sleep(2.5)
        agent.kill()
        owed |= on_disk(folder)
        if life == 1:
            gateway = reborn(weir, gateway)
    agent = agent_of(weir, gateway, ready=True)
    await until_stored(weir, set(owed))
    assert agent.terminate(5.0) == 0
    owed |= on_disk(folder)
    await until_stored(weir, set(owed))

    stored = set(oracle.stored_ids(weir.database_dsn, weir.credentials.bucket_id))
    assert oracle.check(weir.database_dsn, weir.credentials.bucket_id, set(owed), stored) > 20
    with psycopg.connect(weir.database_dsn) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT (name, observed_at, data)),"
            " count(*) FILTER (WHERE name = 'agent.start'), count(*) FILTER (WHERE name = 'agent.stop'),"
            " count(*) FILTER (WHERE name = 'system.load') FROM events"
        ).fetchone()
        reports = connection.execute(
            "SELECT host, status, min(latency_ms) > 0, count(*) > 4 FROM node_reports GROUP BY 1, 2"
        ).fetchall()
    assert row is not None
    events, happenings, starts, stops, loads = row
    # Nothing came twice under another identity either.
    assert events == happenings
    assert (starts, stops) == (4, 1)
    assert reports == [("mill-1", "ONLINE", True, True)]

    path = f"/api/bucket/{weir.credentials.bucket_id}/data"
    token = {"Authorization": f"Bearer {weir.credentials.access_token}"}
    status, points = call(api, "POST", f"{path}/events/stats", {"event_name": "system.load"}, token)
    assert status == 200
    assert isinstance(points, list)
    assert sum(count for _, count in points) == loads
