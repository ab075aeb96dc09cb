"""Gateway against a bare echo on the same aiohttp and uvloop: one event a request, and a hundred.

wrk sends, where it is installed; else generators of ours, for both sides alike. Nothing is stored meanwhile:
every answer must be 202, and the gateway must have counted at least as many events as were answered.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import orjson

from deploy.local.ports import free_port
from tests.bench import ground
from tests.bench.accounting import read_cpu
from tests.bench.arithmetic import compared, sound_count
from tests.bench.figures import Figure, of_comparison, say
from tests.bench.generator import Order
from tests.bench.ground import Ground, Plot
from tests.bench.loads import sent
from tests.bench.processes import Running, started, wait_ready, weir
from tests.bench.recount import Void
from tests.bench.scale import Scale
from tests.bench.workload import Shape, made

_LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-Api-Key"] = "{key}"
local file = io.open("{body}", "rb")
wrk.body = file:read("*all")
file:close()
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("BENCH %d %d %d\\n", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
_DONE = re.compile(r"BENCH (\d+) (\d+) (\d+)")
_ACCEPTED = re.compile(r'weir_events_accepted_total\{kind="event"\} ([0-9.e+]+)')


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """Both ratios. Raises Void."""
    async with ground.plot(where) as plot:
        with (
            _echo(where.folder) as echo,
            weir("gateway", where.folder, {**plot.environment(), **settings}) as door,
        ):
            one = await _measure(plot, scale, echo, door, 1, scale.connections_one)
            many = await _measure(plot, scale, echo, door, 100, scale.connections_many)
    return [one, many]


async def _measure(
    plot: Plot, scale: Scale, echo: Running, door: Running, events: int, connections: int
) -> Figure:
    load = Load(plot, events, connections)
    seconds = scale.gateway_seconds
    await load.run(echo, seconds / 4)
    await load.run(door, seconds / 4)
    rates: list[float] = []
    canaries: list[float] = []
    cpu: list[dict[str, float]] = []
    for turn in range(1, scale.most_rounds + 1):
        pids = {"echo": echo.pid, "gateway": door.pid}
        if plot.ground.broker_pid is not None:
            pids["broker"] = plot.ground.broker_pid
        before = read_cpu(pids)
        canaries.append(await load.run(echo, seconds))
        between, echoed, accepted = read_cpu(pids), load.answered, _accepted(door)
        rates.append(await load.run(door, seconds))
        taken = _accepted(door) - accepted
        if taken < load.answered * events:
            raise Void(f"the gateway answered {load.answered * events} events and counted {taken}")
        used = read_cpu(pids).since(between)
        cpu.append({name: used[name] / load.answered * 1e6 for name in used if name != "echo"})
        cpu[-1]["echo"] = between.since(before)["echo"] / echoed * 1e6
        say(
            f"gateway, {events} a request: echo {canaries[-1]:,.0f}, gateway {rates[-1]:,.0f} requests/s, "
            f"CPU µs a request {cpu[-1]}"
        )
        if turn >= scale.rounds and sound_count(canaries) >= scale.rounds - 1:
            break
    canaries.append(await load.run(echo, seconds))
    each = {name: round(median(run[name] for run in cpu), 2) for name in cpu[0]}
    return of_comparison(
        f"gateway ÷ bare echo, {events} event{'s' if events > 1 else ''} a request",
        compared(rates, canaries),
        goal="gateway_one" if events == 1 else "gateway_many",
        rate_unit="requests/s",
        facts={
            "connections": connections,
            "sender": load.sender,
            "body_bytes": len(load.body),
            "cpu_us_a_request": each,
            # Holds when the clock does not: both servers are one thread.
            "cpu_ratio": round(each["echo"] / each["gateway"], 3),
        },
    )


class Load:
    """The same requests for whichever server. ``answered``: requests of the last run."""

    def __init__(self, plot: Plot, events: int, connections: int) -> None:
        self._plot = plot
        self._connections = connections
        self._shape = replace(Shape(), events_of_request=events, devices_of_request=1)
        self._made_at = datetime.now(UTC)
        workload = made(self._shape, plot.buckets, ground.PARTITIONS, self._made_at)
        body = workload.body(0)
        # One event goes as an object, many as an array.
        self.body = orjson.dumps(orjson.loads(body)[0]) if events == 1 else body
        self.sender = "wrk" if shutil.which("wrk") else "generator"
        self.answered = 0
        self._next = 0
        self._rate = 500.0

    async def run(self, server: Running, seconds: float) -> float:
        """Requests a second. Raises Void when one was not accepted."""
        server.check()
        return await (self._wrk if self.sender == "wrk" else self._generate)(server, seconds)

    async def _wrk(self, server: Running, seconds: float) -> float:
        folder = self._plot.ground.folder
        body, script = folder / "body.json", folder / "load.lua"
        body.write_bytes(self.body)
        script.write_text(_LUA.format(key=self._plot.buckets[0].ingest_key, body=body), encoding="utf-8")
        command = [
            *("wrk", "-t1", f"-c{self._connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"),
            *("-s", str(script), f"{server.url}/v1/events"),
        ]
        output = await asyncio.to_thread(_output, command, seconds + 40)
        found = _DONE.search(output)
        if found is None:
            raise Void(f"wrk said nothing of use:\n{output}")
        self.answered, microseconds, errors = map(int, found.groups())
        if errors or not self.answered:
            raise Void(f"{server.name}: {errors} requests failed of {self.answered}:\n{output}")
        return self.answered / (microseconds / 1e6)

    async def _generate(self, server: Running, seconds: float) -> float:
        # A fixed number of requests: the run before says how many take about as long as wanted.
        count = max(200, round(self._rate * seconds))
        order = Order(
            url=server.url,
            shape=self._shape,
            buckets=self._plot.buckets,
            partitions=ground.PARTITIONS,
            made_at=self._made_at,
            first=self._next,
            count=count,
            connections=self._connections,
        )
        self._next += count
        result = await sent(order, self._plot.ground.folder, seconds * 20 + 60)
        self.answered = count
        self._rate = count / (result.ended_at - result.begun_at)
        return self._rate


def _output(command: list[str], timeout_seconds: float) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout_seconds).stdout


def _accepted(door: Running) -> int:
    with urllib.request.urlopen(f"{door.url}/metrics", timeout=10) as answer:
        found = _ACCEPTED.search(answer.read().decode())
    return int(float(found[1])) if found else 0


@contextmanager
def _echo(folder: Path) -> Iterator[Running]:
    port = free_port()
    with started(
        "echo", ["-m", "tests.bench.echo", str(port)], folder, {}, f"http://127.0.0.1:{port}"
    ) as running:
        wait_ready(running, "/readyz")
        yield running
