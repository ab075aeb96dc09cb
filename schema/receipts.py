"""Receipts: which records of the events topic hold what a request brought.

A receipt is opaque to clients. It names, for each partition, the epoch of the log (see the writer's
``assignment``) and the last offset; a reader that carries it waits until the writer has stored them.
"""

from __future__ import annotations

import base64
import binascii
import struct

from schema.errors import Invalid

_ENTRY = struct.Struct(">HIQ")
_VERSION = b"\x01"
_MAX_ENTRIES = 1024


def encode_receipt(positions: dict[int, tuple[int, int]]) -> str:
    """``positions``: partition → (epoch, last offset)."""
    body = b"".join(_ENTRY.pack(partition, *positions[partition]) for partition in sorted(positions))
    return base64.urlsafe_b64encode(_VERSION + body).rstrip(b"=").decode()


def decode_receipt(text: str) -> dict[int, tuple[int, int]]:
    """The reverse of ``encode_receipt``. Raises Invalid."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if raw[:1] != _VERSION or len(raw) > 1 + _MAX_ENTRIES * _ENTRY.size:
            raise Invalid("X-Weir-Receipt: not a receipt of this gateway; send the one from its answer")
        return {partition: (epoch, offset) for partition, epoch, offset in _ENTRY.iter_unpack(raw[1:])}
    except (binascii.Error, struct.error, ValueError) as error:
        raise Invalid(
            "X-Weir-Receipt: not a receipt of this gateway; send the one from its answer"
        ) from error
