"""Secrets that a run of the tests made, and the search for them in whatever must not hold any.

Our own have a form that can be searched for without knowing them; others (passwords, buckets' secret ids,
settings) are noted when they are made: `watch` does that where this process makes them, `note` elsewhere.
Neighbours: `tests/conftest.py` searches what each test printed and logged, `processes` the logs of real
processes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import argon2

from api.tenancy.secrecy import Secrecy

OURS = re.compile(r"weir_(?:ingest|read|admin|access|refresh|mail)_[A-Za-z0-9_-]{43}")
# A password in a DSN: anything but the mark that takes its place.
IN_A_DSN = re.compile(r"postgres(?:ql)?://[^:/@\s]+:(?!…@)[^@\s/]+@")
# Shorter ones are words, and turn up everywhere.
LEAST_CHARACTERS = 12

_noted: set[str] = set()


def note(*found: str) -> None:
    """Remember secrets of other forms."""
    _noted.update(secret for secret in found if len(secret) >= LEAST_CHARACTERS)


def secrets_in(text: str) -> list[str]:
    """The secrets in a text, each once, shortened so that saying so does not spread them."""
    found = {*OURS.findall(text), *IN_A_DSN.findall(text), *(secret for secret in _noted if secret in text)}
    return sorted(f"{secret[:18]}…" for secret in found)


def written_otherwise(secret: str) -> Iterable[str]:
    """A secret as it is, in hexadecimal and in base64: how a dump may show bytes."""
    raw = secret.encode()
    return secret, raw.hex(), base64.b64encode(raw).decode().rstrip("="), raw[::-1].decode()


def watch() -> None:
    """Note every password that is hashed and every text that is encrypted by this process."""
    argon2.PasswordHasher.hash = _noting(argon2.PasswordHasher.hash)  # type: ignore[method-assign]
    Secrecy.encrypt = _noting(Secrecy.encrypt)  # type: ignore[method-assign]


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def noting(self: Any, secret: str | bytes, *rest: Any, **options: Any) -> Any:
        note(secret if isinstance(secret, str) else secret.decode())
        return method(self, secret, *rest, **options)

    return noting
