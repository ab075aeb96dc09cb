"""Records that no gateway would ever write, put straight into Kafka among the good ones.

Each is buried with its reason, its neighbours in the same record are stored, and the partition moves on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg

from tests.chaos.faults.fault import Fault
from tests.chaos.journal import Try
from tests.chaos.scene import Scene
from tests.support import records
from tests.support.records import Topic, topic_of
from tests.support.topics import PARTITIONS

ROW = "poison"
_PAUSE_SECONDS = 0.15
# What lay at the same offsets of an earlier log has older letters.
_LETTERS = """
SELECT partition, record_offset, position, reason FROM dead_letters WHERE topic = %s AND created_at >= %s
"""


def _bad_data(data: bytes) -> Callable[[str, str], list[bytes]]:
    """A record with a good event, one whose data nobody can store, and another good one."""

    def made(bucket_id: str, stem: str) -> list[bytes]:
        tails = [
            records.event(f"{stem}-0"),
            records.event(f"{stem}-bad", data=data),
            records.event(f"{stem}-1"),
        ]
        return [records.record(records.events(bucket_id, *tails))]

    return made


def _whole(value: Callable[[bytes], bytes]) -> Callable[[str, str], list[bytes]]:
    """A record that is none."""

    def made(bucket_id: str, stem: str) -> list[bytes]:
        return [value(records.record(records.events(bucket_id, records.event(f"{stem}-bad"))))]

    return made


# What it is → (its records, how many good events it holds beside the one dead letter).
POISONS: dict[str, tuple[Callable[[str, str], list[bytes]], int]] = {
    "control character": (_bad_data(b'{"note": "a\x01b"}'), 2),
    "U+0000": (_bad_data(b'{"note": "a\\u0000b"}'), 2),
    "lone surrogate": (_bad_data(b'{"note": "\\ud800"}'), 2),
    "NaN": (_bad_data(b'{"value": NaN}'), 2),
    "no JSON": (_bad_data(b'{"value": '), 2),
    "invalid UTF-8": (_bad_data(b'{"note": "\xff\xfe"}'), 2),
    "a number without end": (_bad_data(b'{"value": 1e999999}'), 2),
    "truncated record": (_whole(lambda value: value[: len(value) // 2]), 0),
    "foreign record": (_whole(lambda _value: b'{"somebody": "else"}'), 0),
    "empty record": (_whole(lambda _value: b""), 0),
    "random bytes": (_whole(lambda _value: secrets.token_bytes(200)), 0),
}


async def poison(scene: Scene, seconds: float) -> None:
    """One of each kind, over and over, on every partition."""
    deadline, began_at = time.monotonic() + seconds, datetime.now(UTC)
    settings = scene.ground.topics.settings(scene.ground.kafka.bootstrap)
    places: dict[tuple[int, int], str] = {}
    async with scene.ground.kafka_lock, topic_of(settings) as topic:
        while True:
            for kind in POISONS:
                await _sent(scene, topic, kind, places)
            if time.monotonic() > deadline:
                break
    scene.judgements.append(lambda: _judge(scene, places, began_at))


async def _sent(scene: Scene, topic: Topic, kind: str, places: dict[tuple[int, int], str]) -> None:
    made, good = POISONS[kind]
    partition = scene.random.randrange(PARTITIONS)
    stem = f"poison-{secrets.token_hex(6)}"
    for value in made(scene.tally.bucket_id, stem):
        sent_at = time.monotonic()
        offset = await asyncio.wait_for(topic.send(value, partition), 20)
        told = Try(0, sent_at, time.monotonic(), 202)
        places[partition, offset] = kind
        scene.tally.acknowledged.update({f"{stem}-{number}": told for number in range(good)})
        scene.tally.refused.add(f"{stem}-bad")
    scene.strike(f"poison: {kind}", partition=partition)
    await asyncio.sleep(_PAUSE_SECONDS)


async def _judge(scene: Scene, places: dict[tuple[int, int], str], began_at: datetime) -> None:
    """One letter for each, with a reason, and none that nobody sent."""
    letters = await asyncio.to_thread(_letters, scene.ground.dsn, scene.ground.topics.events, began_at)
    found = {place: reason for place, reason in letters if place in places}
    missing = {kind for place, kind in places.items() if place not in found}
    scene.must(not missing, f"not dead-lettered: {sorted(missing)}")
    scene.must(all(found.values()), "a dead letter has no reason")
    scene.must(len(found) == len([p for p, _ in letters if p in places]), "a poison was dead-lettered twice")


def _letters(dsn: str, topic: str, began_at: datetime) -> list[tuple[tuple[int, int], str]]:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        rows = connection.execute(_LETTERS, [topic, began_at]).fetchall()
    return [((row[0], row[1]), row[3]) for row in rows]


FAULTS = (Fault("poison", ROW, poison, 20, 2),)
