"""Batches from a buffer to the gateway, in order, each until it is answered for.

The client starts one sender for each buffer. One request is under way at a time, so nothing overtakes.
The guarantee: a batch leaves the buffer only when the gateway's answer accounts for all of it; until
then the very same bytes are sent again, at most every ``slowest_seconds`` and never in step with others.
What the gateway refuses for good is counted and logged with its reason, and holds up nothing behind it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import aiohttp
import orjson
import structlog
from yarl import URL

from ingest.agent.answers import Action, Verdict, judged, unreachable
from ingest.agent.buffer import Batch, Buffer
from schema.errors import Invalid, Unavailable
from schema.metrics import AgentMetrics

log = structlog.get_logger(__name__)

Kind = Literal["event", "node_report"]
PATHS: dict[Kind, str] = {"event": "v1/events", "node_report": "v1/nodes"}

_ANSWER_BYTES = 4 * 1024 * 1024
_LEAST_BATCH_BYTES = 16 * 1024
_SAY_AGAIN_SECONDS = 60.0
_REASONS_LOGGED = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and how long to wait. Durations in seconds."""

    batch_events: int = 1_000
    batch_bytes: int = 1024 * 1024
    request_seconds: float = 15.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0
    slowest_seconds: float = 60.0
    """Bound on any wait, whatever Retry-After says."""
    denied_seconds: float = 30.0
    stop_seconds: float = 1.5
    """How long a request under way may go on once we are to stop."""


def gateway_url(text: str) -> URL:
    """The gateway's address. Raises Invalid."""
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise Invalid(f"{text[:200]!r} is no gateway's address; write it like http://127.0.0.1:8081")
    return url


def gateway_session(key: str, pace: Pace) -> aiohttp.ClientSession:
    """A session that presents ``key`` and bounds every wait. Raises Invalid for a key that cannot be one."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise Invalid(
            "WEIR_AGENT_KEY: missing or malformed; give the ingest key as it was shown when it was made"
        )
    return aiohttp.ClientSession(
        headers={"X-Api-Key": key, "User-Agent": "weir-agent"},
        timeout=aiohttp.ClientTimeout(total=pace.request_seconds, sock_connect=5.0),
        connector=aiohttp.TCPConnector(limit=4),
    )


class Sender:
    """Sends what one buffer holds to one path of the gateway."""

    def __init__(
        self,
        buffer: Buffer,
        session: aiohttp.ClientSession,
        gateway: URL,
        kind: Kind,
        metrics: AgentMetrics,
        *,
        pace: Pace,
        clock: Callable[[], float] = time.time,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._buffer = buffer
        self._session = session
        self._url = gateway / PATHS[kind]
        self._kind: Kind = kind
        self._metrics = metrics
        self._pace = pace
        self._clock = clock
        self._chance = chance
        self._filled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._batch_bytes = pace.batch_bytes
        self._failures = 0
        self._said_at = 0.0
        self.trouble = ""
        """Why the latest batch is not delivered yet; empty when all is well."""
        self._outcome = ""
        self.receipt = ""
        """Of the latest acknowledged batch."""

    def wake(self) -> None:
        """Something was put into the buffer."""
        self._filled.set()

    def stop(self) -> None:
        """End ``run`` soon; what is unsent stays in the buffer."""
        self._stopping.set()
        self._filled.set()

    async def run(self) -> None:
        """Send until ``stop``."""
        while not self._stopping.is_set():
            self._filled.clear()
            try:
                batch = await asyncio.to_thread(
                    self._buffer.take, max_events=self._pace.batch_events, max_bytes=self._batch_bytes
                )
            except Unavailable as error:
                log.warning("buffer unreadable", kind=self._kind, error=error.message)
                await self._pause(self._pace.longest_wait_seconds)
                continue
            if batch is None:
                # No bound is needed on this wait: stop() ends it.
                await self._filled.wait()
            else:
                await self._deliver(batch)

    async def _deliver(self, batch: Batch) -> None:
        pieces = [batch]
        while pieces and not self._stopping.is_set():
            piece = pieces.pop()
            body = b"\n".join(piece.lines)
            verdict = await self._attempt(body, len(piece.lines))
            self._metrics.requests.labels(self._kind, verdict.outcome).inc()
            match verdict.action:
                case Action.DONE:
                    self._count(piece, verdict)
                    await self._advance(piece)
                case Action.WITHOUT_REFUSED:
                    self._count_refused(piece, verdict.refused, verdict.outcome)
                    rest = _without(piece, {index for index, _ in verdict.refused})
                    if rest.lines:
                        pieces.append(rest)
                    else:
                        await self._advance(piece)
                case Action.SPLIT if len(piece.lines) == 1:
                    self._count_refused(piece, ((0, verdict.reason),), verdict.outcome)
                    await self._advance(piece)
                case Action.SPLIT:
                    if verdict.outcome == "too_large":
                        self._batch_bytes = max(len(body) // 2, _LEAST_BATCH_BYTES)
                    pieces.extend(reversed(_halves(piece)))
                case Action.REPEAT | Action.REPEAT_SLOWLY:
                    self._say(verdict)
                    pieces.append(piece)
                    await self._pause(self._wait_seconds(verdict))
            if verdict.action not in (Action.REPEAT, Action.REPEAT_SLOWLY):
                self._recovered()

    async def _attempt(self, body: bytes, events: int) -> Verdict:
        request = asyncio.ensure_future(self._request(body, events))
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((request, stop), return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                await asyncio.wait((request,), timeout=self._pace.stop_seconds)
            return request.result() if request.done() else unreachable("it had not answered when we stopped")
        finally:
            for task in (request, stop):
                task.cancel()
            await asyncio.gather(request, stop, return_exceptions=True)

    async def _request(self, body: bytes, events: int) -> Verdict:
        headers = {"Content-Type": "application/x-ndjson"}
        try:
            # A redirect would carry the key to whoever it names.
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = bytearray()
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > _ANSWER_BYTES:
                        break
                return judged(response.status, response.headers, bytes(answer), events, self._clock())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return unreachable(str(error) or type(error).__name__)

    async def _advance(self, piece: Batch) -> None:
        try:
            await asyncio.to_thread(self._buffer.advance, piece.ends[-1])
        except Unavailable as error:
            # In memory it has moved: only a crash before the next success would send this batch again.
            log.warning("buffer unwritable", kind=self._kind, error=error.message)

    def _count(self, piece: Batch, verdict: Verdict) -> None:
        self._metrics.accepted.labels(self._kind).inc(len(piece.lines) - len(verdict.refused))
        self.receipt = verdict.receipt or self.receipt
        self._batch_bytes = min(self._batch_bytes + self._batch_bytes // 8, self._pace.batch_bytes)
        if verdict.refused:
            self._count_refused(piece, verdict.refused)

    def _count_refused(
        self, piece: Batch, refused: tuple[tuple[int, str], ...], reason: str = "refused"
    ) -> None:
        self._metrics.lost.labels(self._kind, reason).inc(len(refused))
        log.error(
            "events refused",
            kind=self._kind,
            refused=len(refused),
            of=len(piece.lines),
            first=[
                {"reason": why, **_identity(piece.lines[index])} for index, why in refused[:_REASONS_LOGGED]
            ],
        )

    def _wait_seconds(self, verdict: Verdict) -> float:
        self._failures += 1
        if verdict.action is Action.REPEAT_SLOWLY:
            return self._chance(self._pace.denied_seconds / 2, self._pace.denied_seconds)
        doubled = self._pace.first_wait_seconds * 2.0 ** min(self._failures - 1, 20)
        longest = min(doubled, self._pace.longest_wait_seconds)
        wait = self._chance(longest / 2, longest)
        # Never earlier than asked, and spread a little, since everybody was asked the same.
        asked = (verdict.retry_after_seconds or 0.0) * self._chance(1.0, 1.2)
        return min(max(wait, asked), self._pace.slowest_seconds)

    def _say(self, verdict: Verdict) -> None:
        now = time.monotonic()
        self.trouble = verdict.reason
        if verdict.outcome != self._outcome or now - self._said_at >= _SAY_AGAIN_SECONDS:
            say = log.error if verdict.action is Action.REPEAT_SLOWLY else log.warning
            say(
                "not delivered",
                kind=self._kind,
                outcome=verdict.outcome,
                reason=verdict.reason,
                attempts=self._failures + 1,
                waiting_events=self._buffer.waiting_events,
            )
            self._outcome, self._said_at = verdict.outcome, now

    def _recovered(self) -> None:
        if self._outcome:
            log.info("delivered again", kind=self._kind, attempts=self._failures + 1)
        self._failures, self._outcome, self.trouble = 0, "", ""

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _identity(line: bytes) -> dict[str, object]:
    # Never the payload: what a sender puts there is none of the log's business.
    item = orjson.loads(line)
    return {field: item[field] for field in ("name", "id", "host", "observed_at") if field in item}


def _without(piece: Batch, indexes: set[int]) -> Batch:
    kept = [index for index in range(len(piece.lines)) if index not in indexes]
    if not kept:
        return Batch((), ())
    ends = [piece.ends[index] for index in kept]
    # The refused ones behind the last that is left are done with it.
    ends[-1] = piece.ends[-1]
    return replace(piece, lines=tuple(piece.lines[index] for index in kept), ends=tuple(ends))


def _halves(piece: Batch) -> list[Batch]:
    middle = len(piece.lines) // 2
    return [
        Batch(piece.lines[:middle], piece.ends[:middle]),
        Batch(piece.lines[middle:], piece.ends[middle:]),
    ]
