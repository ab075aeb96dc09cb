"""The key cache: asked once, confirmed, forgotten when revoked, served through an outage, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ingest.gateway import keys as module
from ingest.gateway.grants import UNKNOWN_KEY, Asked, Grant, Outcome
from ingest.gateway.keys import Keys
from schema.errors import Denied, Overloaded, Unavailable
from schema.identities import new_secret, secret_digest
from tests.support.bounds import AT_AND_ABOVE

BUCKET = "0123456789abcdef01234567"
GRANT = Grant(BUCKET, bytes.fromhex(BUCKET), None, None)
KEY = new_secret("ingest")


class Database:
    """Answers by digest; counts; may be away, or slow."""

    def __init__(self) -> None:
        self.grants: dict[bytes, Outcome] = {secret_digest(KEY): GRANT}
        self.questions: list[list[Asked]] = []
        self.away = False
        self.gate: asyncio.Event | None = None
        self.now = 0.0

    async def ask(self, asked: Sequence[Asked]) -> list[Outcome]:
        self.questions.append(list(asked))
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise Unavailable("database: away")
        return [self.grants.get(one.digest, UNKNOWN_KEY) for one in asked]

    def keys(self) -> Keys:
        return Keys(self.ask, lambda: self.now, outage_seconds=300, question_seconds=0.2)


async def test_many_requests_ask_once() -> None:
    database = Database()
    database.gate = asyncio.Event()
    keys = database.keys()
    waiting = [asyncio.create_task(keys.learn(KEY, "")) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    database.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [answer for answer in answers[1:] if answer != GRANT] == []
    assert len(database.questions) == 1
    assert keys.known(KEY, "") == GRANT
    assert keys.known(KEY, BUCKET) is None


async def test_unknown_keys_are_asked_once_a_while_and_kept_in_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_REFUSED", 5)
    database = Database()
    keys = database.keys()
    stranger = new_secret("ingest")
    for _ in range(3):
        with pytest.raises(Denied) as refused:
            await keys.learn(stranger, "")
        assert refused.value.status == 401
    assert len(database.questions) == 1
    database.now += module.REFUSED_SECONDS + 1
    database.grants[secret_digest(stranger)] = GRANT
    assert await keys.learn(stranger, "") == GRANT
    for _ in range(20):
        with pytest.raises(Denied):
            await keys.learn(new_secret("ingest"), "")
    assert len(keys._refused) <= 5


async def test_what_is_no_key_is_refused_unasked() -> None:
    database = Database()
    keys = database.keys()
    for secret in (None, "", "x", "weir_ingest_short", "weir_other_" + "x" * 43):
        with pytest.raises(Denied) as refused:
            await keys.learn(secret, "")
        assert refused.value.status == 401
    with pytest.raises(Denied) as refused:
        await keys.learn(KEY, "no bucket")
    assert refused.value.status == 404
    assert database.questions == []


async def test_bytes_that_are_no_text_are_no_key() -> None:
    keys = Database().keys()
    assert keys.known("\udcff", "") is None
    with pytest.raises(Denied):
        await keys.learn("\udcff", "")


async def test_a_revoked_key_is_forgotten_by_the_next_confirmation() -> None:
    database = Database()
    keys = database.keys()
    await keys.learn(KEY, "")
    await keys.confirm()
    assert keys.known(KEY, "") == GRANT
    database.grants.clear()
    await keys.confirm()
    assert keys.known(KEY, "") is None
    with pytest.raises(Denied):
        await keys.learn(KEY, "")


async def test_an_outage_is_survived_for_as_long_as_it_is_allowed() -> None:
    database = Database()
    keys = database.keys()
    await keys.learn(KEY, "")
    database.away = True
    with pytest.raises(Unavailable):
        await keys.confirm()
    database.now += 299
    assert keys.known(KEY, "") == GRANT
    with pytest.raises(Unavailable):
        await keys.learn(new_secret("ingest"), "")
    database.now += 2
    assert keys.known(KEY, "") is None
    with pytest.raises(Unavailable):
        await keys.learn(KEY, "")
    database.away = False
    assert await keys.learn(KEY, "") == GRANT


async def test_a_frozen_database_is_waited_for_within_a_bound_and_by_few() -> None:
    database = Database()
    database.gate = asyncio.Event()
    keys = database.keys()
    async with asyncio.timeout(2):
        with pytest.raises(Unavailable):
            await keys.learn(KEY, "")
        strangers = [
            asyncio.create_task(keys.learn(new_secret("ingest"), "")) for _ in range(module.MAX_QUESTIONS)
        ]
        answers = await asyncio.gather(*strangers, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable, Overloaded}
    await keys.close()


@AT_AND_ABOVE
async def test_so_many_unknown_keys_are_asked_about_at_once(beyond: int) -> None:
    database = Database()
    database.gate = asyncio.Event()
    keys = database.keys()
    secrets = [new_secret("ingest") for _ in range(module.MAX_QUESTIONS + beyond)]
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(keys.learn(one, "") for one in secrets), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * module.MAX_QUESTIONS + (
        [Overloaded] if beyond else []
    )
    await keys.close()


async def test_keys_that_nobody_uses_are_forgotten() -> None:
    database = Database()
    keys = database.keys()
    await keys.learn(KEY, "")
    database.now += module.UNUSED_SECONDS + 1
    await keys.confirm()
    assert len(keys) == 0
