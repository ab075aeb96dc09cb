"""The ``Idempotency-Key`` of a request: what makes all of it repeatable, whatever it leaves out. Pure.

An event without an id gets ``<key>:<its place in the request>``, and is the same as another of that id in
its bucket for 24 hours. What the key promises is the same request: that a body changed under an old key
repeats nothing is not noticed.
"""

from __future__ import annotations

import re

from schema.errors import Invalid
from schema.events import MAX_ID

HEADER = "Idempotency-Key"
# Room for the colon and a place of five digits: more events than that no setting allows in one request.
MAX_KEY = MAX_ID - 6
_FORM = re.compile(rf"[\x21-\x7e]([\x20-\x7e]{{0,{MAX_KEY - 2}}}[\x21-\x7e])?")


def checked_key(given: str | None) -> str | None:
    """The key; None without one. Raises Invalid for what cannot be part of an id."""
    if given is not None and _FORM.fullmatch(given) is None:
        raise Invalid(f"{HEADER}: must be 1 to {MAX_KEY} printable ASCII characters; a UUID will do")
    return given
