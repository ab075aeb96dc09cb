"""Events deleted while they stream: what was accepted before does not come back, what comes after is there.

Two more buckets with loads of their own: one is emptied again and again (delete_all), the other is deleted. A
request that began before a deletion returned and was acknowledged after it began may be on either side.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp
import psycopg

from tests.chaos import oracle
from tests.chaos.content import Mixture
from tests.chaos.faults.fault import Fault
from tests.chaos.journal import Try
from tests.chaos.load import Load
from tests.chaos.scene import Scene
from tests.chaos.waiting import until

ROW = "deletes under load"
_ASK_SECONDS = 30.0
# A repeat of a deleted event is a new event, so the load repeats nothing that was acknowledged.
MIXTURE = Mixture(repeated=0.0)
_STORED = "SELECT id FROM events JOIN buckets USING (bucket_key) WHERE bucket_id = %s"
_GONE_KEYS = """
SELECT count(*) FROM events JOIN bucket_keys USING (bucket_key)
WHERE bucket_keys.bucket_id = %s AND retired_at IS NOT NULL
"""
_PURGED_SECONDS = 120.0
# The short form does not wait for a purge, which is not urgent.
_PURGE_ALONE_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Deletion:
    """A call that may have deleted; ``sure``: it answered that it has."""

    began_at: float
    ended_at: float
    sure: bool


def wrong_ids(
    stored: Counter[str], acknowledged: dict[str, Try], deletions: list[Deletion]
) -> dict[str, set[str]]:
    """Ids that are stored and must not be, and the reverse, by what is wrong. Pure."""
    wrong: dict[str, set[str]] = {"came back": set(), "missing": set(), "twice": set()}
    for identifier, told in acknowledged.items():
        count = stored[identifier]
        if count > 1:
            wrong["twice"].add(identifier)
        if count and any(each.sure and told.ended_at < each.began_at for each in deletions):
            wrong["came back"].add(identifier)
        if not count and all(each.ended_at < told.began_at for each in deletions):
            wrong["missing"].add(identifier)
    return wrong


async def deleted_under_load(scene: Scene, seconds: float) -> None:
    """delete_all of one bucket, again and again, and one whole bucket deleted."""
    deadline = time.monotonic() + seconds
    emptied = scene.second_load("emptied", clients=3, mixture=MIXTURE)
    doomed = scene.second_load("doomed", clients=1, mixture=MIXTURE)
    sending = [asyncio.create_task(emptied.run()), asyncio.create_task(doomed.run())]
    deletions: list[Deletion] = []
    gone: Deletion | None = None
    try:
        while True:
            await scene.pause(0.5, 2.5)
            path = f"/api/bucket/{emptied.credentials.bucket_id}/data/events/delete_all"
            deletions.append(await _deleted(scene, emptied, path, "events deleted"))
            if gone is None or not gone.sure:
                gone = await _deleted(
                    scene, doomed, f"/api/bucket/{doomed.credentials.bucket_id}", "bucket deleted"
                )
            if time.monotonic() > deadline:
                break
        await scene.pause(1.0, 2.0)
    finally:
        for load in (emptied, doomed):
            load.give_up()
        await asyncio.gather(*sending)
    scene.judgements.append(lambda: _judge(scene, emptied, deletions))
    if gone.sure and seconds >= _PURGE_ALONE_SECONDS:
        scene.judgements.append(lambda: _judge_gone(scene, doomed))
    if scene.alone:
        scene.must(
            any(each.sure for each in deletions), "no deletion ever succeeded: the round proves nothing"
        )


async def _deleted(scene: Scene, load: Load, path: str, what: str) -> Deletion:
    timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
    headers = {"Authorization": f"Bearer {load.credentials.access_token}"}
    began_at = time.monotonic()
    status = 0
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.delete(scene.ground.api_url + path, headers=headers, data=b"{}") as response,
        ):
            status = response.status
            await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    sure = status == 200
    if sure:
        scene.strike(what)
    elif scene.alone:
        scene.failures.append(f"{what}: {status} to {path}")
    return Deletion(began_at, time.monotonic(), sure)


async def _judge(scene: Scene, load: Load, deletions: list[Deletion]) -> None:
    tally, dsn = load.tally, scene.ground.dsn
    ids = Counter(await asyncio.to_thread(_stored, dsn, tally.bucket_id))
    wrong = wrong_ids(ids, tally.acknowledged, deletions)
    for what, identifiers in wrong.items():
        scene.must(not identifiers, f"{len(identifiers)} events {what}: {sorted(identifiers)[:3]}")
    refused = tally.refused & ids.keys()
    scene.must(not refused, f"{len(refused)} refused events are stored: {sorted(refused)[:3]}")
    scene.failures += tally.wrong_answers[:3]
    rollups = await asyncio.to_thread(oracle.wrong_rollups, dsn, tally.bucket_id)
    scene.must(not rollups, rollups)
    scene.remarks.append(f"{len(tally.acknowledged)} events around {len(deletions)} deletions")


async def _judge_gone(scene: Scene, load: Load) -> None:
    """A deleted bucket has no row that could be asked for; its rows go in the background."""
    late = [each for each in load.tally.tries if each.status == 202]

    async def purged() -> bool:
        return await asyncio.to_thread(_left, scene.ground.dsn, load.credentials.bucket_id) == 0

    if scene.alone and late:
        fine = await until(purged, _PURGED_SECONDS, 1.0)
        scene.must(fine, f"rows of a deleted bucket are there after {_PURGED_SECONDS:g} s")


def _stored(dsn: str, bucket_id: str) -> list[str]:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return [row[0] for row in connection.execute(_STORED, [bucket_id]).fetchall()]


def _left(dsn: str, bucket_id: str) -> int:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute(_GONE_KEYS, [bucket_id]).fetchone()
    return int(row[0]) if row else 0


FAULTS = (Fault("deletes", ROW, deleted_under_load, 40, 6),)
