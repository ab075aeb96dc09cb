"""What many of these tests begin with: a store, written to without a Kafka, and the query API before it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.api_door import Door, api_door
from tests.support.stored import Stored, stored_in


@pytest.fixture
async def stored(database_dsn: str) -> AsyncIterator[Stored]:
    """The writer's transaction and maintenance on the test's database."""
    async with stored_in(database_dsn) as made:
        yield made


@pytest.fixture
async def api(database_dsn: str) -> AsyncIterator[Door]:
    """The query API over the same database, with callers of every kind."""
    async with api_door(database_dsn) as made:
        yield made
