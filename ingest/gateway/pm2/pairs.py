"""A bucket's public and secret id, as agents send them: whose they are, read from the database.

Cached and confirmed by ``ingest.gateway.keys``, as API keys are: a secret id that was changed, or a bucket
that was deleted, ends its agents' links within 30 s.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from importlib.resources import files

from ingest.gateway.grants import Asked, Grant, Outcome
from ingest.gateway.keys import Keys
from schema.connections import Pool, acquired
from schema.errors import Denied

_PAIRS = files(__package__).joinpath("pairs.sql").read_text()
_FORM = re.compile(r"[0-9A-Za-z_-]{8,128}")
UNKNOWN_PAIR = Denied("no bucket has this public and secret id; link the agent again", status=401)


async def read_pairs(pool: Pool, asked: Sequence[Asked], timeout_seconds: float) -> list[Outcome]:
    """The outcome for each of ``asked`` (whose bucket ids are public ids), in order. Raises Unavailable."""
    outcomes: list[Outcome] = [UNKNOWN_PAIR] * len(asked)
    async with acquired(pool, timeout_seconds) as connection, asyncio.timeout(timeout_seconds):
        rows = await connection.fetch(_PAIRS, [one.digest for one in asked], [one.bucket_id for one in asked])
    for row in rows:
        outcomes[row["position"] - 1] = Grant(
            row["bucket_id"],
            bytes.fromhex(row["bucket_id"]),
            row["retention_days"],
            row["events_per_second"],
        )
    return outcomes


async def granted(pairs: Keys, public_id: str, secret_id: str) -> Grant:
    """What a pair allows. Raises Denied (401), Overloaded, Unavailable."""
    if _FORM.fullmatch(public_id) is None or _FORM.fullmatch(secret_id) is None:
        raise Denied(UNKNOWN_PAIR.message, status=401)
    grant = pairs.known(secret_id, public_id)
    return grant if grant is not None else await pairs.ask_for(secret_id, public_id)
