"""The live feed of one process: who may follow what, who is connected, and the topic's end read for them.

Neighbours: the surfaces open and subscribe here, and send what waits. Guarantee: whoever may no longer read
a bucket gets nothing of it once the next round of ``live_confirm_seconds`` has asked; without the database,
subscribers are served for ``live_outage_seconds``. After a pause of Kafka's, it is asked before anything is
sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import structlog

from api.http.authentication import Credential
from api.live.rights import RightsQuery
from api.live.subscribers import Ending, Subscriber, Subscribers, Subscription
from api.live.tail import Tail
from schema.connections import Pool
from schema.errors import Denied, Invalid, Overloaded, Unavailable
from schema.metrics import LiveMetrics
from schema.settings import ApiSettings

log = structlog.get_logger(__name__)

# How long a new subscriber waits for the topic's end to be found; then it is taken, and the feed is paused.
_POSITION_SECONDS = 3.0
# Questions to the database at one time: the other calls of this process need the pool too.
_QUESTIONS = 2


class Feeds:
    """What lives as long as the process. ``pool`` is the primary's."""

    def __init__(
        self,
        settings: ApiSettings,
        pool: Pool,
        metrics: LiveMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._rights = RightsQuery(pool, settings.kafka_events_topic, settings.database_connect_seconds)
        self._questions = asyncio.Semaphore(_QUESTIONS)
        self._subscribers = Subscribers(
            clock, settings.live_queue_bytes, settings.live_all_queues_bytes, metrics
        )
        self._tail: Tail | None = None
        self._reading: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self._draining = False

    async def caller(self, credential: Credential) -> str:
        """Whose credential it is. Raises Denied (401) when it does not stand, Unavailable."""
        return (await self._rights.of(credential, ())).caller

    async def open(self, credential: Credential, caller: str) -> Subscriber:
        """A subscriber without subscriptions; from now on nothing that is accepted escapes the feed.

        Whoever opened it calls ``leave``. Raises Invalid (429: the caller has too many), Overloaded.
        """
        most = self._settings.live_caller_connections
        if sum(other.caller == caller for other in self._subscribers.all()) >= most:
            self._metrics.shed.labels("caller").inc()
            raise Invalid(f"at most {most} live connections of one caller; close some", status=429)
        if self._draining or len(self._subscribers) >= self._settings.live_connections:
            reason = "draining" if self._draining else "full"
            self._metrics.shed.labels(reason).inc()
            raise Overloaded("this process takes no further subscriber; connect again")
        subscriber = Subscriber(credential, caller, self._clock(), self._subscribers.waiting)
        self._subscribers.add(subscriber)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POSITION_SECONDS):
                    await self._follow().positioned.wait()
        except BaseException:
            self.leave(subscriber)
            raise
        return subscriber

    async def subscribe(self, subscriber: Subscriber, public_id: str, patterns: Sequence[str]) -> None:
        """Follow a bucket, or follow it by other patterns.

        Raises Denied (401; 404 for a bucket that is not there or may not be read), Invalid (too many),
        Unavailable.
        """
        known = subscriber.subscriptions.get(public_id)
        asked_at = self._clock()
        if known is not None:
            followed = known.followed
        else:
            if len(subscriber.subscriptions) >= self._settings.live_subscriptions:
                raise Invalid(f"at most {self._settings.live_subscriptions} buckets for one connection")
            async with self._questions:
                found = (await self._rights.of(subscriber.credential, [public_id])).followed
            if public_id not in found:
                raise Denied("no bucket of this public id that may be read", status=404)
            followed = found[public_id]
        self._subscribers.subscribe(subscriber, public_id, Subscription(followed, patterns), asked_at)

    def unsubscribe(self, subscriber: Subscriber, public_id: str) -> None:
        """Follow it no longer."""
        self._subscribers.unsubscribe(subscriber, public_id)

    def end(self, subscriber: Subscriber, ending: Ending, reason: str) -> None:
        """Let a subscriber go."""
        self._subscribers.end(subscriber, ending, reason)
        self._rest()

    def leave(self, subscriber: Subscriber) -> None:
        """It has gone."""
        self._subscribers.remove(subscriber)
        self._rest()

    async def trouble(self) -> str | None:
        """What keeps the feed from going on; None: nothing, or nobody follows."""
        tail = self._tail
        return None if tail is None or tail.trouble is None else f"paused: {tail.trouble}"

    async def let_go(self) -> None:
        """Take nobody any more, and let all go: they find another process."""
        self._draining = True
        for subscriber in self._subscribers.all():
            self.end(subscriber, Ending.DRAINED, "")

    async def lifetime(self) -> AsyncIterator[None]:
        """Ask again and again while the process lives; ends what was begun."""
        confirming = asyncio.create_task(self._confirm_always())
        yield
        await self.let_go()
        confirming.cancel()
        with suppress(asyncio.CancelledError):
            await confirming
        if self._endings:
            await asyncio.wait(self._endings)

    def _follow(self) -> Tail:
        """The reading of the topic, begun for the first subscriber."""
        if self._tail is None:
            self._tail = Tail(
                self._settings, self._subscribers.take, self._confirm_all, self._clock, self._metrics
            )
            self._reading = asyncio.create_task(self._tail.run())
        return self._tail

    def _rest(self) -> None:
        """End the reading when nobody is left."""
        if self._reading is None or len(self._subscribers):
            return
        ending, self._reading, self._tail = self._reading, None, None
        ending.cancel()
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        self._metrics.reading.set(0)

    async def _confirm_always(self) -> None:
        while True:
            await asyncio.sleep(self._settings.live_confirm_seconds)
            try:
                await self._confirm_all()
            except Exception:
                # Without this round nobody's rights would ever end.
                log.exception("rights of subscribers not confirmed")

    async def _confirm_all(self) -> None:
        """Ask for everybody once; without the database, let those go who were not confirmed for too long."""
        for subscriber in self._subscribers.all():
            try:
                await self._confirm(subscriber)
            except Unavailable as error:
                log.warning("rights of subscribers not confirmed", reason=error.message)
                break
        oldest_at = self._clock() - self._settings.live_outage_seconds
        for subscriber in self._subscribers.all():
            if subscriber.confirmed_at < oldest_at:
                self.end(subscriber, Ending.UNCONFIRMED, "the database does not answer")

    async def _confirm(self, subscriber: Subscriber) -> None:
        asked_at, public_ids = self._clock(), list(subscriber.subscriptions)
        try:
            async with self._questions:
                found = (await self._rights.of(subscriber.credential, public_ids)).followed
        except Denied as error:
            self.end(subscriber, Ending.DENIED, error.message)
            return
        subscriber.confirmed_at = asked_at
        for public_id in public_ids:
            subscription = subscriber.subscriptions.get(public_id)
            if subscription is None:
                continue
            if public_id in found:
                subscription.followed = found[public_id]
            else:
                self.end(subscriber, Ending.DENIED, "no bucket of this public id that may be read any more")
