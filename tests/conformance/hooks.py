"""What schemathesis does not know by itself: how texts of NDJSON are sent. It imports this module."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: Any, value: Any) -> bytes:
    """The text as it is; whatever else was made up, as its text."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
