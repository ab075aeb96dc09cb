"""Where an event goes is part of its identity: it may never change between releases."""

from zlib import crc32

import pytest

from schema.settings import KafkaSettings
from schema.topics import MAX_RECORD_BYTES, declared_topics, route

BUCKET = bytes.fromhex("0123456789abcdef01234567")


@pytest.mark.parametrize(
    ("bucket", "source", "of_8", "of_12"),
    [
        (BUCKET, b"", 1, 5),
        (BUCKET, b"server-1", 7, 7),
        (BUCKET, b"device-42", 1, 1),
        (bytes(12), b"server-1", 3, 11),
        (bytes(12), "gerät".encode(), 4, 8),
    ],
)
def test_routes_are_these_for_ever(bucket: bytes, source: bytes, of_8: int, of_12: int) -> None:
    assert (route(bucket, source, 8), route(bucket, source, 12)) == (of_8, of_12)
    # In words: the CRC-32 of the bucket's id and the source behind it, modulo the partitions.
    assert of_8 == crc32(bucket + source) % 8


def test_sources_spread_over_the_partitions() -> None:
    counts = [0] * 8
    for number in range(8_000):
        counts[route(BUCKET, f"device-{number}".encode(), 8)] += 1
    assert min(counts) > 800


def test_a_topic_says_what_acks_all_means_and_a_dead_letter_passes_where_its_record_did() -> None:
    events, dead_letters = declared_topics(KafkaSettings(kafka_replication=3, kafka_min_insync_replicas=2))
    assert (events.partitions, dead_letters.partitions) == (8, 1)
    for topic in (events, dead_letters):
        assert topic.replication == 3
        assert topic.options["min.insync.replicas"] == "2"
        assert topic.options["unclean.leader.election.enable"] == "false"
    assert int(events.options["max.message.bytes"]) == MAX_RECORD_BYTES
    assert int(dead_letters.options["max.message.bytes"]) > MAX_RECORD_BYTES
