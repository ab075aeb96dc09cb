"""The live feed's side of the matrix: who may follow a bucket is who may read it."""

from __future__ import annotations

import aiohttp
import pytest

from tests.access_matrix.columns import COLUMNS, Column
from tests.access_matrix.rights import RIGHTS
from tests.access_matrix.world import World
from tests.support.followers import following

REFUSED = "no bucket of this public id that may be read"


async def outcome(session: aiohttp.ClientSession, world: World, caller: str, public_id: str) -> str:
    """How it ends when somebody follows a bucket, and then says what nobody understands."""
    url = world.doors["api"].url
    try:
        async with following(session, url, headers=world.cast.credentials[caller]) as follower:
            await follower.follow(public_id)
            await follower.socket.send_str("{}")
            code, reason = await follower.ending()
            assert code == 1008
            return reason
    except aiohttp.WSServerHandshakeError as error:
        return str(error.status)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.head)
async def test_who_follows_a_bucket(world: World, column: Column) -> None:
    """Who may read it comes as far as being misunderstood; another tenant's is there for superusers only."""
    cell = RIGHTS["read"][column.head]
    superuser = column.head in ("root", "rR", "rA")
    async with aiohttp.ClientSession() as session:
        for caller in column.callers:
            ours = await outcome(session, world, caller, world.cast.ours.public_id)
            theirs = await outcome(session, world, caller, world.cast.theirs.public_id)
            expected = {"401": "401", "403": REFUSED, "ok": "action: required"}[cell]
            assert (caller, ours) == (caller, expected)
            if not superuser:
                expected = "401" if cell == "401" else REFUSED
            assert (caller, theirs) == (caller, expected)
