"""What was encrypted is read with its key, in its place, and nowhere else."""

import base64

import pytest

from api.tenancy.secrecy import Secrecy, new_key
from schema.errors import Invalid


def test_a_text_comes_back_in_its_place_only() -> None:
    secrecy = Secrecy(new_key())
    encrypted = secrecy.encrypt("secret", "bucket a")
    assert b"secret" not in encrypted
    assert secrecy.encrypt("secret", "bucket a") != encrypted
    assert secrecy.decrypt(encrypted, "bucket a") == "secret"
    assert secrecy.decrypt(encrypted, "bucket b") is None
    for changed in (encrypted[:-1], encrypted[:20], b"", encrypted[:-1] + bytes([encrypted[-1] ^ 1])):
        assert secrecy.decrypt(changed, "bucket a") is None


def test_a_key_is_changed_by_putting_a_new_one_in_front() -> None:
    old, new = new_key(), new_key()
    encrypted = Secrecy(old).encrypt("secret", "a")
    both = Secrecy(f"{new}, {old}")
    assert both.decrypt(encrypted, "a") == "secret"
    assert Secrecy(new).decrypt(encrypted, "a") is None
    assert Secrecy(new).decrypt(both.encrypt("later", "a"), "a") == "later"


def test_without_a_key_nothing_is_possible_and_none_is_made_up() -> None:
    assert not Secrecy("").possible
    assert Secrecy("").decrypt(b"x" * 40, "a") is None


@pytest.mark.parametrize("key", ["password", base64.b64encode(bytes(16)).decode(), "!" * 44])
def test_what_is_no_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(Invalid) as refused:
        Secrecy(key)
    assert key not in refused.value.message
