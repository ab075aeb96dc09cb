"""A bucket, a topic and a deployment of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from schema.topics import ensure_topics
from tests.support.processes import Weir, deployed, make_bucket
from tests.support.records import Topic, topic_of
from tests.support.topics import TopicNames


@pytest.fixture
def bucket_id(database_dsn: str) -> str:
    """A bucket that nobody used before."""
    return make_bucket(database_dsn).bucket_id


@pytest.fixture
async def topic(kafka_bootstrap: str, topics: TopicNames) -> AsyncIterator[Topic]:
    """The test's events topic, made, with a producer to it."""
    settings = topics.settings(kafka_bootstrap)
    await ensure_topics(settings)
    async with topic_of(settings) as found:
        yield found


@pytest.fixture
def weir(kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path) -> Iterator[Weir]:
    """A deployment whose processes the test starts; quick to give partitions on, without maintenance."""
    with deployed(
        kafka_bootstrap,
        database_dsn,
        topics,
        tmp_path,
        WEIR_MAINTENANCE="false",
        WEIR_SESSION_SECONDS="6",
        WEIR_LOG_LEVEL="debug",
    ) as found:
        yield found
