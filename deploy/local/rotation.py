"""A log file that starts anew when it is full, keeping a few older ones beside it.

Neighbours: `deploy.local.child` writes what its process prints; `weir logs` reads.
Guarantee: `name.log` never passes `limit_bytes` by more than one write; `name.log.1` is the newest of the
`kept` older files; nothing written is lost at a turn.
"""

import os
from pathlib import Path

LOG_BYTES = 8 * 1024 * 1024
LOGS_KEPT = 3


class RotatingLog:
    """Appends bytes to `path`. One writer at a time: each child's pump owns its log."""

    def __init__(self, path: Path, *, limit_bytes: int = LOG_BYTES, kept: int = LOGS_KEPT) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._kept = kept
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size_bytes = os.fstat(self._descriptor).st_size

    def write(self, chunk: bytes) -> None:
        """Append the chunk whole; a full file is put aside first."""
        if self._size_bytes and self._size_bytes + len(chunk) > self._limit_bytes:
            self._turn()
        view = memoryview(chunk)
        while view:
            written = os.write(self._descriptor, view)
            self._size_bytes += written
            view = view[written:]

    def _turn(self) -> None:
        os.close(self._descriptor)
        for age in range(self._kept, 0, -1):
            newer = self.path if age == 1 else older_log(self.path, age - 1)
            if newer.exists():
                newer.replace(older_log(self.path, age))
        self._open()

    def close(self) -> None:
        """Close the file; a closed log is not written again."""
        os.close(self._descriptor)


def log_path(home: Path, name: str) -> Path:
    """Where the log of a process of the stack is kept."""
    return home / "logs" / f"{name}.log"


def older_log(path: Path, age: int) -> Path:
    """The name of the log put aside `age` turns ago, 1 being the newest."""
    return path.with_name(f"{path.name}.{age}")


def last_lines(path: Path, count: int, *, since_bytes: int = 0, read_bytes: int = 64 * 1024) -> list[str]:
    """The last lines of a log, oldest first; fewer if the log has fewer, none if there is no log.

    What stands before `since_bytes` is left out, unless the log was turned since: then all of it is newer.
    """
    try:
        with path.open("rb") as log:
            size_bytes = log.seek(0, os.SEEK_END)
            begin = since_bytes if since_bytes <= size_bytes else 0
            log.seek(max(begin, size_bytes - read_bytes))
            return log.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def log_bytes(path: Path) -> int:
    """The size of a log; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
