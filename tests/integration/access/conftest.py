"""One deployment for all tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.access_matrix.world import World, new_world
from tests.support import databases
from tests.support.topics import TopicNames, delete_topics, unique_prefix


@pytest.fixture(scope="package")
def world(
    kafka_bootstrap: str,
    database_server: str,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """The doors, the tenants and the callers of ``tests.access_matrix``."""
    topics = TopicNames(unique_prefix())
    folder = tmp_path_factory.mktemp("matrix")
    with databases.clone_of(database_server, template_database) as dsn:
        with new_world(kafka_bootstrap, dsn, topics, folder) as made:
            yield made
        asyncio.run(delete_topics(kafka_bootstrap, topics.prefix))
