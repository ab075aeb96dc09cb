"""Passwords: argon2id, computed on threads of its own so that the event loop goes on meanwhile.

Two at a time at most: each takes a tenth of a second of one core and 64 MiB. Whoever waits too long for a
turn is told to come back. A sign-in to an account that does not exist costs as much as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from schema.errors import Invalid, Overloaded

T = TypeVar("T")
MIN_PASSWORD = 8
MAX_PASSWORD = 1024
_AT_ONCE = 2
_WAIT_SECONDS = 5.0

_hasher = PasswordHasher()
# Of no password: what an unknown account is compared with.
_NOBODY = _hasher.hash("")


def hash_password(password: str) -> str:
    """The argon2id hash of a password. Slow on purpose. Raises Invalid when it is too short or too long."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Invalid(f"password: must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return _hasher.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is the one behind the hash; None: of an account that has none. Slow on purpose."""
    try:
        _hasher.verify(_NOBODY if password_hash is None else password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


class Passwords:
    """The same two, awaited. ``close`` ends its threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="password")
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """Raises Invalid, Overloaded."""
        return await self._run(partial(hash_password, password))

    async def fits(self, password: str, password_hash: str | None) -> bool:
        """Raises Overloaded."""
        if len(password) > MAX_PASSWORD:
            return False
        return await self._run(partial(is_password, password, password_hash))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            await asyncio.wait_for(self._places.acquire(), _WAIT_SECONDS)
        except TimeoutError:
            raise Overloaded("too many sign-ins at once; try again") from None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._places.release()

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
