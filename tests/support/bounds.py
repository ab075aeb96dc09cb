"""A limit is tried twice by one test: with as much as it lets through, and with one more."""

from __future__ import annotations

import pytest

# The test's argument ``beyond`` is 0 at the limit, and 1 above it.
AT_AND_ABOVE = pytest.mark.parametrize("beyond", [0, 1], ids=["at", "above"])
