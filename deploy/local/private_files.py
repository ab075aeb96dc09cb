"""Files that their owner alone can read: passwords, keys, what names them.

Neighbours: `timescale`, `state` and `credentials` write theirs with it.
Guarantee: such a file appears whole or not at all, and is closed to others from its first byte on.
"""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace a file by this text and a line's end; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    fresh.replace(path)
