"""The keys that this gateway knows: what makes a database outage harmless to those who are known.

A key is asked for once, however many requests bring it at the same time; what is known is confirmed
in one query every ``key_refresh_seconds`` and forgotten when it was revoked; while the database does
not answer, a key that was confirmed less than ``key_outage_seconds`` ago goes on being served. Unknown
keys are remembered for a short time too, in bounded number. Secrets are kept as SHA-256 only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import structlog

from ingest.gateway.grants import UNKNOWN_KEY, Asked, Grant, Outcome, checked_bucket_id
from schema.errors import Denied, Invalid, Overloaded, Unavailable
from schema.identities import looks_like_secret

log = structlog.get_logger(__name__)

MAX_KNOWN = 100_000
MAX_REFUSED = 10_000
MAX_QUESTIONS = 256
REFUSED_SECONDS = 5.0
# A key that nobody has used for so long is forgotten, and asked for again when it comes.
UNUSED_SECONDS = 3600.0
_QUESTIONS_AT_ONCE = 1000

Ask = Callable[[Sequence[Asked]], Awaitable[list[Outcome]]]
Clock = Callable[[], float]


@dataclass(slots=True)
class _Known:
    grant: Grant
    confirmed_at: float
    used_at: float


@dataclass(slots=True)
class _Refused:
    outcome: Denied | Invalid
    until: float


class Keys:
    """Which key may write to which bucket. ``ask`` reads the database; ``clock`` is monotonic."""

    def __init__(self, ask: Ask, clock: Clock, *, outage_seconds: float, question_seconds: float) -> None:
        self._ask = ask
        self._clock = clock
        self._outage_seconds = outage_seconds
        self._question_seconds = question_seconds
        self._known: dict[tuple[bytes, str], _Known] = {}
        self._refused: dict[tuple[bytes, str], _Refused] = {}
        self._questions: dict[tuple[bytes, str], asyncio.Task[Outcome]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def known(self, secret: str, named_bucket: str) -> Grant | None:
        """The grant of a key that was confirmed not too long ago; None: it has to be learned."""
        entry = self._known.get((_digest(secret), named_bucket))
        if entry is None:
            return None
        now = self._clock()
        if now - entry.confirmed_at > self._outage_seconds:
            return None
        entry.used_at = now
        return entry.grant

    async def learn(self, secret: str | None, named_bucket: str) -> Grant:
        """Ask the database for a key that is not known.

        Raises Denied, Invalid (a user's key without a bucket), Overloaded (too many unknown keys at
        once), Unavailable (the database does not answer in time).
        """
        if secret is None:
            raise Denied("X-Api-Key: required; send an ingest key", status=401)
        if not looks_like_secret(secret):
            raise _copy(UNKNOWN_KEY)
        return await self.ask_for(secret, checked_bucket_id(named_bucket))

    async def ask_for(self, secret: str, named: str) -> Grant:
        """The same for a secret and a name whose forms have been looked at."""
        key = (_digest(secret), named)
        refused = self._refused.get(key)
        if refused is not None and refused.until > self._clock():
            raise _copy(refused.outcome)
        outcome = await self._answer(key)
        if isinstance(outcome, Grant):
            return outcome
        raise _copy(outcome)

    async def _answer(self, key: tuple[bytes, str]) -> Outcome:
        question = self._questions.get(key)
        if question is None:
            if len(self._questions) >= MAX_QUESTIONS:
                raise Overloaded("too many unknown keys at once; try again")
            question = asyncio.create_task(self._question(key))
            # Whoever waits sees the failure; once nobody does, the deadline has answered for it.
            question.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._questions[key] = question
        # Shielded: one caller that goes away must not take the answer from the others.
        done, _ = await asyncio.wait({question}, timeout=self._question_seconds)
        if not done:
            raise Unavailable("database: no answer about a key in time")
        return question.result()

    async def _question(self, key: tuple[bytes, str]) -> Outcome:
        try:
            [outcome] = await self._ask([Asked(*key)])
            self._keep(key, outcome)
            return outcome
        finally:
            del self._questions[key]

    def _keep(self, key: tuple[bytes, str], outcome: Outcome) -> None:
        now = self._clock()
        if isinstance(outcome, Grant):
            self._refused.pop(key, None)
            previous = self._known.get(key)
            if previous is None and len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = _Known(outcome, now, previous.used_at if previous else now)
            return
        self._known.pop(key, None)
        if len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = _Refused(outcome, now + REFUSED_SECONDS)

    async def confirm(self) -> None:
        """Ask again about every known key; forget those that may no longer. Raises Unavailable."""
        now = self._clock()
        for key in [key for key, entry in self._known.items() if now - entry.used_at > UNUSED_SECONDS]:
            del self._known[key]
        keys = list(self._known)
        for start in range(0, len(keys), _QUESTIONS_AT_ONCE):
            some = keys[start : start + _QUESTIONS_AT_ONCE]
            outcomes = await self._ask([Asked(*key) for key in some])
            for key, outcome in zip(some, outcomes, strict=True):
                self._keep(key, outcome)

    async def close(self) -> None:
        """End the questions that are still open."""
        questions = list(self._questions.values())
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)


def _digest(secret: str) -> bytes:
    # A header may hold bytes that are no text; they are a secret that nobody has.
    return sha256(secret.encode(errors="surrogateescape")).digest()


def _copy(refusal: Denied | Invalid) -> Denied | Invalid:
    # A fresh one each time: an exception that is raised again and again grows its traceback for ever.
    return type(refusal)(refusal.message, status=refusal.status)
