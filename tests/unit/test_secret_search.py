"""The search for secrets finds them; what stands in their place is let pass."""

from __future__ import annotations

import pytest

from schema.identities import new_secret, secret_prefix
from tests.support.secret_search import note, secrets_in, written_otherwise


@pytest.mark.parametrize("kind", ["ingest", "read", "admin", "access", "refresh", "mail"])
def test_our_own_are_found_without_being_known(kind: str) -> None:
    secret = new_secret(kind)
    assert secrets_in(f'{{"event": "refused", "key": "{secret}"}}') == [f"{secret[:18]}…"]
    assert secrets_in(f"{secret_prefix(secret)}… weir_{kind}_…") == []


def test_passwords_in_dsns_and_noted_ones_are_found() -> None:
    assert secrets_in("no answer from postgresql://weir:hunter2@db.example/weir")
    assert secrets_in("no answer from postgresql://weir:…@db.example/weir") == []
    assert secrets_in("postgresql://postgres@127.0.0.1:5432/weir") == []
    assert secrets_in("a very long password indeed") == []
    note("long password indeed")
    assert secrets_in("a very long password indeed")


def test_bytes_are_searched_for_as_a_dump_shows_them() -> None:
    assert "68756e74657232" in written_otherwise("hunter2")
