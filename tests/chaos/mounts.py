"""Small file systems for the servers' folders, so that a disk can be full without filling the machine's.

They are mounted in memory, in a mount namespace of the campaign's own: nobody else sees them, and they go
with its last process. Where mounting is not permitted the campaign runs without, and its report says so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MARK = "WEIR_CHAOS_NAMESPACE"
_SECONDS = 20
MIB = 1024 * 1024
PAGE = 4096
_UNSHARE = ["unshare", "--mount", "--propagation", "private"]


def in_namespace() -> bool:
    """Whether this process has a mount namespace of its own, in which it may mount."""
    return os.environ.get(MARK) == "own"


def enter_namespace(arguments: Sequence[str]) -> None:
    """Become the same command in a mount namespace of its own, where that is permitted; else return."""
    if in_namespace() or MARK in os.environ:
        return
    tried = [*_UNSHARE, "sh", "-c", 'mount -t tmpfs -o size=1m none "$0"', "/mnt"]
    try:
        permitted = subprocess.run(tried, capture_output=True, check=False, timeout=_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        permitted = False
    if not permitted:
        return
    environment = {**os.environ, MARK: "own"}
    os.execvpe(_UNSHARE[0], [*_UNSHARE, "--", sys.executable, "-m", "tests.chaos", *arguments], environment)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """``folder`` as a file system of its own, of this size."""
    options = f"size={mebibytes}m,mode=0755"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "weir-chaos", folder], check=True, timeout=_SECONDS
    )
    try:
        yield folder
    finally:
        # Lazily: a server that was killed may not be gone from it yet.
        subprocess.run(["umount", "--lazy", folder], check=False, timeout=_SECONDS)


def fill(folder: Path) -> Path:
    """Take all room that is left on the folder's disk; returns the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb") as output:
        size = 0
        # In pieces, since others take room meanwhile.
        for piece in (64 * MIB, MIB, PAGE):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(output.fileno(), size, piece)
                    size += piece
    return ballast
