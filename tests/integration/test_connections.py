"""A database that cannot be connected to is away, whatever it says: no defect of ours."""

from __future__ import annotations

import pytest

from schema.connections import Duty, acquired, close_pool, open_connection, open_pool
from schema.errors import Unavailable
from schema.settings import DatabaseSettings
from tests.support.api_door import api_door
from tests.support.databases import dsn_of


@pytest.mark.parametrize("trouble", ["no such database", "closed", "no such role"])
async def test_whatever_refuses_a_connection_is_unavailable(
    database_server: str, template_database: str, trouble: str
) -> None:
    name = {"no such database": "weir_test_none_such", "closed": template_database}.get(trouble, "postgres")
    dsn = dsn_of(database_server, name)
    if trouble == "no such role":
        dsn = (
            dsn.replace("://", "://nobody_of_this_name:x@", 1)
            if "@" not in dsn
            else dsn.replace(dsn.split("://")[1].split("@")[0], "nobody_of_this_name:x")
        )
    settings = DatabaseSettings(database_dsn=dsn)
    with pytest.raises(Unavailable, match="no connection"):
        await open_connection(settings, Duty.API)
    pool = await open_pool(settings, Duty.API)
    try:
        with pytest.raises(Unavailable, match="no connection"):
            async with acquired(pool, 5):
                raise AssertionError("connected")
    finally:
        await close_pool(pool, 1)


async def test_a_door_to_a_database_that_is_gone_answers_503(database_dsn: str, database_server: str) -> None:
    async with api_door(
        database_dsn, database_read_dsn=dsn_of(database_server, "weir_test_none_such")
    ) as door:
        answer = await door.ask("GET", "/devices/d1/events/boot", who="root")
    assert (answer.status, "Retry-After" in answer.headers) == (503, True), answer
