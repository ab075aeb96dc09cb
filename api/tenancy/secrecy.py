"""Secrets that have to be shown again: encrypted under keys from the settings, bound to what they belong to.

AES-256-GCM; the first key encrypts, every key decrypts, so that a key is changed by putting a new one in
front. A text moved to another bucket's row does not decrypt there. What only has to be compared is hashed
instead (``schema.identities``).
"""

from __future__ import annotations

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schema.errors import Invalid

_KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"


class Secrecy:
    """Encrypts and decrypts. ``keys``: the setting ``secret_key``. Raises Invalid for what is no such key."""

    def __init__(self, keys: str) -> None:
        self._ciphers = [AESGCM(_key(text)) for text in keys.split(",") if text.strip()]

    @property
    def possible(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._ciphers)

    def encrypt(self, text: str, belongs_to: str) -> bytes:
        """Version, nonce and ciphertext."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._ciphers[0].encrypt(nonce, text.encode(), belongs_to.encode())

    def decrypt(self, encrypted: bytes, belongs_to: str) -> str | None:
        """The text; None when no key fits (it was taken out of the settings)."""
        nonce, ciphertext = encrypted[1 : 1 + _NONCE_BYTES], encrypted[1 + _NONCE_BYTES :]
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, ciphertext, belongs_to.encode()).decode()
            except (InvalidTag, ValueError):
                continue
        return None


def new_key() -> str:
    """A fresh key, as the setting takes it."""
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise Invalid(f"WEIR_SECRET_KEY: each key is {_KEY_BYTES} bytes in base64")
    return key
