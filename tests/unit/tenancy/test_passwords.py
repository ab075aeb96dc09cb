"""Passwords: argon2id, off the loop, the same work whoever it is."""

import asyncio

import pytest

from api.tenancy.passwords import Passwords, hash_password, is_password
from schema.errors import Invalid


def test_a_password_fits_its_hash_only() -> None:
    hashed = hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    assert hash_password("correct horse") != hashed
    assert is_password("correct horse", hashed)
    assert not is_password("Correct horse", hashed)
    assert not is_password("correct horse", "no hash")


def test_who_has_none_cannot_come_in_with_any_not_even_an_empty_one() -> None:
    assert not is_password("", None)
    assert not is_password("correct horse", None)


@pytest.mark.parametrize("password", ["", "seven77", "x" * 1025])
def test_too_short_or_too_long(password: str) -> None:
    with pytest.raises(Invalid):
        hash_password(password)


async def test_the_loop_goes_on_meanwhile() -> None:
    passwords = Passwords()
    try:
        hashing = asyncio.create_task(passwords.hash("correct horse"))
        turns = 0
        while not hashing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 10
        assert await passwords.fits("correct horse", await hashing)
        assert not await passwords.fits("x" * 2000, await hashing)
    finally:
        passwords.close()
