"""Who gets which event, and what happens to those who do not take theirs."""

from __future__ import annotations

import orjson
import pytest
from prometheus_client import CollectorRegistry

from api.http.authentication import Credential
from api.live.rights import Followed
from api.live.subscribers import Ending, Subscriber, Subscribers, Subscription
from schema.metrics import LiveMetrics
from tests.support.bounds import AT_AND_ABOVE
from tests.support.records import DAY, event, events, now, record, report, reports

BUCKET, OTHER = "0a" * 12, "0b" * 12


class Scene:
    """Subscribers with a clock of their own."""

    def __init__(self, queue_bytes: int = 10_000, all_queues_bytes: int = 100_000) -> None:
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.all = Subscribers(lambda: self.now, queue_bytes, all_queues_bytes, LiveMetrics(self.registry))

    def new(self) -> Subscriber:
        subscriber = Subscriber(Credential("secret", is_key=False), "caller", self.now, self.all.waiting)
        self.all.add(subscriber)
        return subscriber

    def follow(
        self,
        subscriber: Subscriber,
        bucket: str = BUCKET,
        patterns: tuple[str, ...] = (),
        asked_at: float | None = None,
        visible_from: int = 0,
        fences: dict[int, int] | None = None,
    ) -> None:
        followed = Followed(bytes.fromhex(bucket), visible_from, fences or {})
        asked_at = self.now if asked_at is None else asked_at
        self.all.subscribe(subscriber, bucket, Subscription(followed, patterns), asked_at)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


async def ids_of(subscriber: Subscriber) -> list[str]:
    """The ids of all that waits for a subscriber."""
    found = []
    while subscriber.queued_bytes:
        frame = orjson.loads(await subscriber.next_frame())
        found.append(frame["data"][1]["human:event"]["_id"])
    return found


async def test_a_frame_tells_an_event_in_both_vocabularies() -> None:
    scene = Scene()
    subscriber = scene.new()
    scene.follow(subscriber)
    at = now()
    scene.all.take(
        0, 0, record(events(BUCKET, event("e1", at, device="d1", data=b'{"n":18446744073709551617}')))
    )
    frame = await subscriber.next_frame()
    assert b"18446744073709551617" in frame
    kind, packet = orjson.loads(frame)["data"]
    assert kind == BUCKET
    assert packet.pop("server_name") == "s1"
    told = packet.pop("human:event")
    assert packet == {}
    told.pop("data")
    assert told == {
        "_id": "e1",
        "at": at // 1000,
        "event_name": "boot",
        "app_name": "app",
        "server_name": "s1",
        "device_name": "d1",
        "stream": "events",
        "name": "boot",
        "process": {"name": "app", "server": "s1"},
    }


async def test_each_gets_what_is_its_own() -> None:
    scene = Scene()
    here, there, both, nothing = (scene.new() for _ in range(4))
    scene.follow(here)
    scene.follow(there, OTHER)
    scene.follow(both)
    scene.follow(both, OTHER)
    scene.follow(nothing, patterns=("status",))
    scene.all.take(0, 0, record(events(BUCKET, event("a"), event("b")), events(OTHER, event("c"))))
    scene.all.take(1, 0, record(reports(BUCKET, report()), events(BUCKET, event("d"))))
    assert await ids_of(here) == ["a", "b", "d"]
    assert await ids_of(there) == ["c"]
    assert await ids_of(both) == ["a", "b", "c", "d"]
    assert await ids_of(nothing) == []
    scene.all.unsubscribe(both, BUCKET)
    scene.all.unsubscribe(both, "unknown")
    scene.all.take(0, 1, record(events(BUCKET, event("e")), events(OTHER, event("f"))))
    assert await ids_of(both) == ["f"]
    assert scene.value("weir_live_delivered_total") == 11


async def test_what_lies_before_a_fence_or_past_the_retention_is_not_shown() -> None:
    scene = Scene()
    subscriber = scene.new()
    scene.follow(subscriber, fences={0: 5}, visible_from=now() - DAY)
    scene.all.take(0, 4, record(events(BUCKET, event("fenced"))))
    scene.all.take(0, 5, record(events(BUCKET, event("kept"))))
    scene.all.take(1, 4, record(events(BUCKET, event("elsewhere"))))
    scene.all.take(1, 5, record(events(BUCKET, event("old", now() - 2 * DAY))))
    assert await ids_of(subscriber) == ["kept", "elsewhere"]


async def test_what_was_read_while_a_subscription_was_asked_for_is_not_lost() -> None:
    scene = Scene()
    other, subscriber = scene.new(), scene.new()
    scene.all.take(0, 0, record(events(BUCKET, event("before"))))
    scene.now += 1
    asked_at = scene.now
    scene.all.take(0, 1, record(events(BUCKET, event("meanwhile")), events(OTHER, event("foreign"))))
    scene.now += 1
    scene.follow(subscriber, asked_at=asked_at)
    scene.follow(subscriber, asked_at=asked_at, patterns=("**",))
    scene.all.take(0, 2, record(events(BUCKET, event("after"))))
    assert await ids_of(subscriber) == ["meanwhile", "after"]
    assert await ids_of(other) == []
    scene.now += 60
    scene.all.take(0, 3, record(events(OTHER, event("late"))))
    scene.follow(other, asked_at=asked_at)
    assert await ids_of(other) == []


async def test_a_slow_subscriber_is_dropped_and_the_others_get_on() -> None:
    scene = Scene(queue_bytes=10_000)
    slow, quick = scene.new(), scene.new()
    scene.follow(slow)
    scene.follow(quick)
    taken = []
    for number in range(100):
        scene.all.take(
            0, number, record(events(BUCKET, event(f"e{number}", data=b'{"x":"%s"}' % (b"y" * 500))))
        )
        taken += await ids_of(quick)
    assert taken == [f"e{number}" for number in range(100)]
    assert (slow.ending, slow.ended.is_set(), slow.queued_bytes) == (Ending.SLOW, True, 0)
    assert quick.ending is None
    assert scene.all.all() == [quick]
    assert scene.value("weir_live_dropped_total", reason="slow") == 1
    assert scene.all.waiting.size_bytes == 0


def waiting_bytes() -> int:
    """What one event costs that waits for a subscriber."""
    scene = Scene()
    subscriber = scene.new()
    scene.follow(subscriber)
    scene.all.take(0, 0, record(events(BUCKET, event("e"))))
    return subscriber.queued_bytes


@AT_AND_ABOVE
def test_a_queue_has_its_bytes(beyond: int) -> None:
    scene = Scene(queue_bytes=waiting_bytes() - beyond)
    subscriber = scene.new()
    scene.follow(subscriber)
    scene.all.take(0, 0, record(events(BUCKET, event("e"))))
    assert subscriber.ending is (Ending.SLOW if beyond else None)


@AT_AND_ABOVE
def test_all_queues_together_have_their_bytes(beyond: int) -> None:
    scene = Scene(all_queues_bytes=2 * waiting_bytes() - beyond)
    both = [scene.new(), scene.new()]
    for subscriber in both:
        scene.follow(subscriber)
    scene.all.take(0, 0, record(events(BUCKET, event("e"))))
    assert [one.ending for one in both].count(Ending.SLOW) == (1 if beyond else 0)


async def test_all_queues_together_are_bounded_and_the_slowest_goes_first() -> None:
    scene = Scene(queue_bytes=50_000, all_queues_bytes=60_000)
    slower, slow = scene.new(), scene.new()
    scene.follow(slower)
    big = b'{"x":"%s"}' % (b"y" * 1000)
    for number in range(20):
        scene.all.take(0, number, record(events(BUCKET, event(f"a{number}", data=big))))
    scene.now += 1
    scene.follow(slow)
    for number in range(20):
        scene.all.take(0, 20 + number, record(events(BUCKET, event(f"b{number}", data=big))))
        assert scene.all.waiting.size_bytes <= 62_000
    assert slower.ending is Ending.SLOW
    assert slow.ending is None
    assert len(await ids_of(slow)) == 20


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nothing of ours",
        record(events(BUCKET, event("e"), labels=b"\x00")),
        record(events(BUCKET, b"\x00" * 40)),
        record(events(BUCKET, event("e", data=b"{broken"))),
        record(events(BUCKET, event("e", data=b'{"x":"\xff"}'))),
    ],
)
async def test_what_cannot_be_read_makes_no_frame(value: bytes) -> None:
    """Anybody may have written to the topic; a broken frame would end the subscriber's connection."""
    scene = Scene()
    subscriber = scene.new()
    scene.follow(subscriber)
    scene.all.take(0, 0, value)
    scene.all.take(0, 1, record(events(BUCKET, event("good"))))
    assert await ids_of(subscriber) == ["good"]
    assert scene.value("weir_live_unreadable_total") == 1


async def test_who_has_gone_leaves_nothing_behind() -> None:
    scene = Scene()
    subscriber = scene.new()
    scene.follow(subscriber)
    scene.follow(subscriber, OTHER)
    scene.all.take(0, 0, record(events(BUCKET, event("e"))))
    scene.all.remove(subscriber)
    scene.all.remove(subscriber)
    scene.all.end(subscriber, Ending.DRAINED)
    assert (len(scene.all), scene.all.waiting.size_bytes, scene.value("weir_live_subscriptions")) == (0, 0, 0)
    scene.follow(subscriber)
    assert scene.value("weir_live_subscriptions") == 0
