"""The agent as a real process on this machine: its first seconds, its end, and what kill -9 leaves behind.

The far side here is a server of the test's own that breaks off whenever it likes; what the real gateway
and writer make of repeats is proved where they are tested.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from ingest.agent.segments import decode_lines, segment_numbers, segment_path
from tests.unit.agent.far_gateway import (
    accepting,
    far_gateway,
    resetting,
    saying,
    storing_then_hanging,
    storing_then_resetting,
)

KEY = "weir_ingest_" + "k" * 43


@asynccontextmanager
async def agent(
    gateway_url: str, folder: Path, output: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        "PATH": os.environ["PATH"],
        "WEIR_AGENT_GATEWAY": gateway_url,
        "WEIR_AGENT_KEY": KEY,
        "WEIR_AGENT_BUFFER_PATH": str(folder),
        "WEIR_AGENT_INTERVAL_SECONDS": "1",
        "WEIR_AGENT_SERVER_NAME": "mill-1",
    } | settings
    with output.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest.agent.process", env=environment, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await asyncio.wait_for(process.wait(), 10)


async def until(condition: object, within_seconds: float = 15.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def names(lines: list[bytes]) -> set[str]:
    return {orjson.loads(line)["name"] for line in lines}


def events_of(lines: list[bytes], pid: int) -> list[dict[str, Any]]:
    """The events about one process."""
    return [event for event in map(orjson.loads, lines) if event["data"].get("pid") == pid]


def on_disk(folder: Path) -> set[bytes]:
    """Lines in an agent's files, sent ones that were not tidied away among them."""
    return {
        line
        for number in segment_numbers(folder)
        for line in decode_lines(segment_path(folder, number).read_bytes()).texts
    }


async def stopped(process: asyncio.subprocess.Process, number: signal.Signals) -> tuple[int, float]:
    begin = time.monotonic()
    process.send_signal(number)
    code = await asyncio.wait_for(process.wait(), 10)
    return code, time.monotonic() - begin


async def test_a_person_sees_something_at_once(tmp_path: Path) -> None:
    async with far_gateway() as gateway:
        begin = time.monotonic()
        async with agent(gateway.url, tmp_path / "buffer", tmp_path / "log") as process:
            await until(lambda: gateway.reports and "system.load" in names(gateway.stored))
            # Most of it is Python's start.
            assert time.monotonic() - begin < 4
            wanted = {"agent.start", "system.load", "system.memory", "system.disk"}
            await until(lambda: wanted <= names(gateway.stored))
            child = await asyncio.create_subprocess_exec("sleep", "1.5")
            await child.wait()
            # Others start and end processes on this machine, too.
            await until(lambda: len(events_of(gateway.stored, child.pid)) >= 2)
            await until(lambda: len(gateway.reports) >= 3)
            code, seconds = await stopped(process, signal.SIGTERM)
    assert (code, seconds < 5) == (0, True)
    assert "agent.stop" in names(gateway.stored)
    events = [orjson.loads(line) for line in gateway.stored]
    assert [(event["name"], event["app"]) for event in events_of(gateway.stored, child.pid)] == [
        ("process.start", "sleep"),
        ("process.exit", "sleep"),
    ]
    assert {(event["device"], event["server"]) for event in events} == {("mill-1", "mill-1")}
    assert len({report["observed_at"] for report in gateway.reports}) == len(gateway.reports)
    for report in gateway.reports:
        assert (report["host"], report["status"], report["interval_seconds"]) == ("mill-1", "ONLINE", 1)
        assert 0 < report["latency_ms"] < 1_500
    assert KEY not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_in_time_while_the_gateway_hangs_and_keeps_what_is_unsent(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with far_gateway() as gateway:
        gateway.otherwise = storing_then_hanging
        async with agent(gateway.url, tmp_path / "buffer", tmp_path / "log") as process:
            await asyncio.wait_for(gateway.asked.wait(), 15)
            await asyncio.sleep(1.2)
            code, seconds = await stopped(process, number)
        assert (code, seconds < 5) == (0, True)
        owed = on_disk(tmp_path / "buffer" / "events")
        assert {"agent.start", "system.load", "agent.stop"} <= names(list(owed))
        gateway.otherwise = accepting
        gateway.stored.clear()
        async with agent(gateway.url, tmp_path / "buffer", tmp_path / "log"):
            await until(lambda: owed <= set(gateway.stored))


async def test_kill_9_in_mid_send_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    folder = tmp_path / "buffer" / "events"
    weather = [accepting, accepting, storing_then_hanging, storing_then_resetting, resetting, saying(503)]
    owed: set[bytes] = set()
    async with far_gateway() as gateway:
        for life in range(6):
            gateway.script.clear()
            gateway.script.extend(chance.choices(weather, k=200))
            gateway.script.insert(1, [storing_then_hanging, storing_then_resetting, resetting][life % 3])
            gateway.asked.clear()
            async with agent(gateway.url, tmp_path / "buffer", tmp_path / "log") as process:
                await asyncio.wait_for(gateway.asked.wait(), 15)
                await asyncio.sleep(chance.uniform(0, 1.5))
                process.kill()
                await asyncio.wait_for(process.wait(), 10)
            # What it had promised to itself when it died: the independent truth.
            owed |= on_disk(folder)
        gateway.script.clear()
        async with agent(gateway.url, tmp_path / "buffer", tmp_path / "log") as process:
            await until(lambda: owed <= set(gateway.stored))
            code, _ = await stopped(process, signal.SIGTERM)
        assert code == 0
    assert len(owed) > 20
    arrived = set(gateway.stored)
    assert len(gateway.stored) > len(arrived), "nothing was repeated, so this run proved nothing"
    items = [orjson.loads(line) for line in arrived]
    # One identity, one event; and one happening never under two identities.
    assert len({(item["id"], item["observed_at"]) for item in items}) == len(items)
    happenings = {
        (item["name"], item["observed_at"], orjson.dumps(item["data"], option=orjson.OPT_SORT_KEYS))
        for item in items
    }
    assert len(happenings) == len(items)
    assert len([item for item in items if item["name"] == "agent.start"]) == 7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"WEIR_AGENT_KEY": ""}, "WEIR_AGENT_KEY"),
        ({"WEIR_AGENT_GATEWAY": "nowhere"}, "no gateway's address"),
        ({"WEIR_AGENT_INTERVAL_SECONDS": "0"}, "WEIR_AGENT_INTERVAL_SECONDS"),
        ({"WEIR_AGENT_HOST": "192.0.2.1", "WEIR_AGENT_PORT": "1"}, "cannot listen"),
    ],
    ids=["key", "gateway", "interval", "port"],
)
async def test_a_wrong_setting_is_one_sentence_and_code_2(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    async with agent("http://127.0.0.1:1", tmp_path / "buffer", tmp_path / "log", **settings) as process:
        assert await asyncio.wait_for(process.wait(), 15) == 2
    log = (tmp_path / "log").read_text()
    assert said in log
    assert "Traceback" not in log


async def test_two_agents_do_not_share_a_buffer(tmp_path: Path) -> None:
    async with far_gateway() as gateway, agent(gateway.url, tmp_path / "buffer", tmp_path / "log"):
        await until(lambda: bool(gateway.stored))
        async with agent(gateway.url, tmp_path / "buffer", tmp_path / "second") as second:
            assert await asyncio.wait_for(second.wait(), 15) == 2
    assert "another process holds the buffer" in (tmp_path / "second").read_text()


async def test_it_is_small(tmp_path: Path) -> None:
    async with (
        far_gateway() as gateway,
        agent(gateway.url, tmp_path / "buffer", tmp_path / "log") as process,
    ):
        await until(lambda: bool(gateway.stored))
        await asyncio.sleep(3)
        measured = psutil.Process(process.pid)
        assert measured.memory_info().rss < 100 * 1024 * 1024
        before = measured.cpu_times()
        await asyncio.sleep(5)
        after = measured.cpu_times()
    # Five times as busy as by default (every second, not every five), under a shared machine's noise.
    assert after.user + after.system - before.user - before.system < 5 * 0.08
