"""The query API with plans, and mail that goes to a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.buckets.calls import KEY, PLANS
from tests.support.api_door import Door, api_door


@pytest.fixture
async def api(database_dsn: str, tmp_path: Path) -> AsyncIterator[Door]:
    """Mail is in the folder ``mail`` of the test's own."""
    options = {"mail_folder": str(tmp_path / "mail"), "secret_key": KEY, "plans": PLANS}
    async with api_door(database_dsn, **options) as made:
        yield made
