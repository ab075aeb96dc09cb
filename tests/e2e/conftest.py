"""A deployment with topics of its own, for scenarios that need no settings of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schema.topics import ensure_topics
from tests.support.processes import Weir, deployed
from tests.support.topics import TopicNames


@pytest.fixture
async def weir(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> AsyncIterator[Weir]:
    """A deployment without processes; what the test starts ends with it."""
    await ensure_topics(topics.settings(kafka_bootstrap))
    with deployed(kafka_bootstrap, database_dsn, topics, tmp_path) as weir:
        yield weir
