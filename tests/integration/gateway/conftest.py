"""A deployment with a gateway on the run's servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Weir, deployed
from tests.support.topics import TopicNames


@pytest.fixture
def weir(kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path) -> Iterator[Weir]:
    """A deployment without processes; what the test starts ends with it."""
    with deployed(kafka_bootstrap, database_dsn, topics, tmp_path) as weir:
        yield weir
