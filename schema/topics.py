"""The Kafka topics, declared once: partitions, retention and what makes acks=all mean something.

``ensure_topics`` creates what is missing and says where an existing topic differs from its
declaration; it never changes a topic, because a partition count is part of an event's identity
routing (see ``route``) and fixed for the topic's life.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schema.errors import Unavailable
from schema.settings import KafkaSettings

MAX_RECORD_BYTES = 4 * 1024 * 1024
# A dead letter is the record as it was, and headers that say why: it must pass where the record did.
MAX_DEAD_LETTER_BYTES = MAX_RECORD_BYTES + 64 * 1024


@dataclass(frozen=True, slots=True)
class TopicDeclaration:
    """One topic as it has to be."""

    name: str
    partitions: int
    replication: int
    options: dict[str, str]


def declared_topics(settings: KafkaSettings) -> list[TopicDeclaration]:
    """The topics of one deployment."""
    durable = {
        "min.insync.replicas": str(settings.kafka_min_insync_replicas),
        "unclean.leader.election.enable": "false",
        "max.message.bytes": str(MAX_RECORD_BYTES),
        "retention.ms": str(settings.kafka_retention_seconds * 1000),
    }
    return [
        TopicDeclaration(
            settings.kafka_events_topic, settings.kafka_partitions, settings.kafka_replication, durable
        ),
        TopicDeclaration(
            settings.kafka_dead_letters_topic,
            1,
            settings.kafka_replication,
            {**durable, "max.message.bytes": str(MAX_DEAD_LETTER_BYTES)},
        ),
    ]


def route(bucket_id: bytes, source: bytes, partitions: int) -> int:
    """The partition of (bucket, source). Stable across releases: retries must meet what they repeat."""
    return crc32(source, crc32(bucket_id)) % partitions


async def ensure_topics(settings: KafkaSettings) -> list[str]:
    """Create the missing topics; return those created. Raises Unavailable."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap,
        request_timeout_ms=int(settings.kafka_request_seconds * 1000),
    )
    try:
        await admin.start()
        return [topic.name for topic in declared_topics(settings) if await _create(admin, topic)]
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {settings.kafka_bootstrap}: {error!r}") from error
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, topic: TopicDeclaration) -> bool:
    request = NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.options)
    try:
        response = await admin.create_topics([request])
    except TopicAlreadyExistsError:
        return False
    for _name, code, *rest in response.topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:
            return False
        if code != 0:
            raise error(*rest)
    return True
