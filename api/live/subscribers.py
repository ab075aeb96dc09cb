"""Who is connected to the live feed, and what waits to be sent to each. No I/O; one event loop.

Neighbours: ``tail`` hands every record of the topic to ``Subscribers.take``; the surface takes the frames
out of its ``Subscriber`` and sends them. Guarantee: nobody is waited for. A subscriber whose frames pile up
beyond its bound is dropped, and when all of them together are beyond theirs, the one that most waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from api.http.authentication import Credential
from api.live.frames import EVENT_KEY, Labels, frame_of
from api.live.patterns import wanted
from api.live.rights import Followed
from schema.errors import Invalid
from schema.metrics import LiveMetrics
from schema.records import EVENTS, EventFields, Segment, decode_event, decode_record

log = structlog.get_logger(__name__)

# What a frame costs beside its text.
_FRAME_BYTES = 100
# Records that a subscription may get although they were read while it was still being asked for.
_RECENT_SECONDS = 5.0
_RECENT_BYTES = 8 * 1024 * 1024


class Ending(StrEnum):
    """Why a subscriber was let go."""

    SLOW = "slow"
    DENIED = "denied"
    INVALID = "invalid"
    DRAINED = "drained"
    UNCONFIRMED = "unconfirmed"


class Subscription:
    """One bucket that a subscriber follows. ``followed`` is what was last confirmed."""

    __slots__ = ("_wants_events", "followed")

    def __init__(self, followed: Followed, patterns: Sequence[str]) -> None:
        self.followed = followed
        self._wants_events = wanted(patterns, EVENT_KEY)

    def wants(self, partition: int, offset: int, event: EventFields) -> bool:
        """Whether it gets this event."""
        followed = self.followed
        return (
            self._wants_events
            and offset >= followed.fences.get(partition, 0)
            and event.observed_at >= followed.visible_from
        )


@dataclass(slots=True)
class Waiting:
    """What waits for all subscribers together."""

    size_bytes: int = 0


class Subscriber:
    """One connection: what it follows, and the frames that wait for it."""

    def __init__(self, credential: Credential, caller: str, confirmed_at: float, waiting: Waiting) -> None:
        self.credential = credential
        self.caller = caller
        self.confirmed_at = confirmed_at
        self.subscriptions: dict[str, Subscription] = {}
        self.queued_bytes = 0
        self.ending: Ending | None = None
        self.reason = ""
        self.ended = asyncio.Event()
        self._waiting = waiting
        self._frames: deque[bytes] = deque()
        self._arrived = asyncio.Event()

    def put(self, frame: bytes) -> None:
        """Let a frame wait."""
        self._frames.append(frame)
        self._count(len(frame) + _FRAME_BYTES)
        self._arrived.set()

    def empty(self) -> None:
        """Throw away what waits."""
        self._frames.clear()
        self._count(-self.queued_bytes)

    async def next_frame(self) -> bytes:
        """The oldest frame, waited for; it is the caller's from here."""
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        self._count(-len(frame) - _FRAME_BYTES)
        return frame

    def _count(self, size_bytes: int) -> None:
        self.queued_bytes += size_bytes
        self._waiting.size_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class _Read:
    at: float
    partition: int
    offset: int
    value: bytes


class Subscribers:
    """All of one process. ``clock``: monotonic seconds."""

    def __init__(
        self, clock: Callable[[], float], queue_bytes: int, all_queues_bytes: int, metrics: LiveMetrics
    ) -> None:
        self._clock = clock
        self._queue_bytes = queue_bytes
        self._all_queues_bytes = all_queues_bytes
        self._metrics = metrics
        self.waiting = Waiting()
        self._connected: set[Subscriber] = set()
        self._followers: dict[bytes, dict[Subscriber, Subscription]] = {}
        self._recent: deque[_Read] = deque()
        self._recent_bytes = 0
        metrics.subscribers.set_function(lambda: len(self._connected))
        metrics.subscriptions.set_function(lambda: sum(map(len, self._followers.values())))
        metrics.queued_bytes.set_function(lambda: self.waiting.size_bytes)

    def __len__(self) -> int:
        return len(self._connected)

    def all(self) -> list[Subscriber]:
        """Those that are connected now."""
        return list(self._connected)

    def add(self, subscriber: Subscriber) -> None:
        """Somebody has connected."""
        self._connected.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Somebody has gone; once is enough."""
        self._connected.discard(subscriber)
        for public_id in list(subscriber.subscriptions):
            self.unsubscribe(subscriber, public_id)
        subscriber.empty()
        if not self._connected:
            self._recent.clear()
            self._recent_bytes = 0

    def subscribe(
        self, subscriber: Subscriber, public_id: str, subscription: Subscription, asked_at: float
    ) -> None:
        """Follow a bucket, from what was read since ``asked_at`` on; again: by other patterns."""
        if subscriber.ending is not None:
            return
        known = public_id in subscriber.subscriptions
        if not known:
            for read in self._recent:
                if read.at >= asked_at:
                    self._spread(read, subscription.followed.bucket_id, [(subscriber, subscription)])
        subscriber.subscriptions[public_id] = subscription
        self._followers.setdefault(subscription.followed.bucket_id, {})[subscriber] = subscription

    def unsubscribe(self, subscriber: Subscriber, public_id: str) -> None:
        """Follow it no longer; one that is not followed is no error."""
        subscription = subscriber.subscriptions.pop(public_id, None)
        if subscription is None:
            return
        followers = self._followers[subscription.followed.bucket_id]
        followers.pop(subscriber, None)
        if not followers:
            del self._followers[subscription.followed.bucket_id]

    def end(self, subscriber: Subscriber, ending: Ending, reason: str = "") -> None:
        """Let a subscriber go; its surface sees ``ended`` and does the rest."""
        if subscriber.ending is not None:
            return
        subscriber.ending, subscriber.reason = ending, reason
        self.remove(subscriber)
        subscriber.ended.set()
        self._metrics.dropped.labels(ending.value).inc()
        log.info("subscriber let go", ending=ending.value, reason=reason)

    def take(self, partition: int, offset: int, value: bytes) -> None:
        """A record of the topic: its events go to whoever follows their buckets."""
        read = _Read(self._clock(), partition, offset, value)
        self._remember(read)
        self._spread(read, None, None)

    def _remember(self, read: _Read) -> None:
        self._recent.append(read)
        self._recent_bytes += len(read.value)
        oldest_at = read.at - _RECENT_SECONDS
        while self._recent and (self._recent_bytes > _RECENT_BYTES or self._recent[0].at < oldest_at):
            self._recent_bytes -= len(self._recent.popleft().value)

    def _spread(
        self,
        read: _Read,
        bucket_id: bytes | None,
        followers: Sequence[tuple[Subscriber, Subscription]] | None,
    ) -> None:
        try:
            segments = decode_record(read.value).segments
        except Invalid as error:
            self._unreadable(error)
            return
        for segment in segments:
            if segment.kind != EVENTS:
                continue
            if followers is not None:
                reached = followers if segment.bucket_id == bucket_id else ()
            else:
                reached = tuple(self._followers.get(segment.bucket_id, {}).items())
            if reached:
                self._send(read, segment, reached)

    def _send(
        self, read: _Read, segment: Segment, followers: Iterable[tuple[Subscriber, Subscription]]
    ) -> None:
        try:
            labels = Labels(segment)
        except Invalid as error:
            self._unreadable(error)
            return
        for tail in segment.tails:
            try:
                event = decode_event(tail)
                reached = [
                    subscriber
                    for subscriber, subscription in followers
                    if subscriber.ending is None and subscription.wants(read.partition, read.offset, event)
                ]
                frame = frame_of(labels, event) if reached else b""
            except Invalid as error:
                self._unreadable(error)
                continue
            for subscriber in reached:
                self._put(subscriber, frame)
            self._metrics.delivered.inc(len(reached))

    def _put(self, subscriber: Subscriber, frame: bytes) -> None:
        if subscriber.ending is not None:
            # Let go of by what was put before another one, a moment ago.
            return
        subscriber.put(frame)
        if subscriber.queued_bytes > self._queue_bytes:
            self.end(subscriber, Ending.SLOW)
        elif self.waiting.size_bytes > self._all_queues_bytes:
            self.end(max(self._connected, key=lambda one: one.queued_bytes), Ending.SLOW)

    def _unreadable(self, error: Invalid) -> None:
        # The writer makes a dead letter of it, with all that there is to say.
        self._metrics.unreadable.inc()
        log.debug("not sent to subscribers", reason=error.message)
