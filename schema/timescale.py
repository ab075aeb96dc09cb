"""Which releases of TimescaleDB serve, and why others do not. Pure.

Neighbours: ``migrations.migrate`` refuses to begin on the others, ``weir doctor`` names them.
"""

from __future__ import annotations

import re

# Nothing older was ever tried.
LEAST = (2, 19, 0)
# A refresh that is interrupted leaves rows that no later one materializes.
FORGETS_INTERRUPTED = (2, 22, 0)

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def refusal(version: str) -> str | None:
    """Why a release does not serve, and which one would; None if it does.

    ``version``: as the extension says it, such as ``2.29.2``; what follows the numbers does not matter.
    """
    found = _RELEASE.match(version)
    if found is None:
        return f"TimescaleDB {version}: no release that is known here"
    release = tuple(int(number or 0) for number in found.groups())
    if release < LEAST:
        return f"TimescaleDB {version} is too old: {_text(LEAST)} or newer is needed"
    if release == FORGETS_INTERRUPTED:
        return f"TimescaleDB {version} would lose counts when a refresh is interrupted: update it"
    return None


def _text(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))
