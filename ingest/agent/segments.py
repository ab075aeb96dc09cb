"""One file of the buffer: lines of text, each behind its own checksum.

The buffer appends lines and reads them back. The guarantee: whatever a crash, a full disk or a power cut
left in a file, reading yields exactly the lines that were written whole, and says how many bytes were not.
A line is eight hex digits (CRC-32 of the text), a space, the text, a newline; the text holds no newline.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from schema.errors import Invalid, Unavailable

_SUFFIX = ".events"


@dataclass(frozen=True, slots=True)
class Lines:
    """What a piece of a file holds: texts, the offset after each, and bytes that are no whole line."""

    texts: tuple[bytes, ...]
    ends: tuple[int, ...]
    damaged_bytes: int


def encode_line(text: bytes) -> bytes:
    """The line of ``text``. Raises Invalid if it holds a newline."""
    if b"\n" in text:
        raise Invalid("a line of the buffer cannot hold a newline; write JSON without indentation")
    return b"%08x %b\n" % (crc32(text), text)


def decode_line(line: bytes) -> bytes | None:
    """The text of a line without its newline; None if it is damaged."""
    try:
        checksum = int(line[:8], 16)
    except ValueError:
        return None
    text = line[9:]
    return text if line[8:9] == b" " and crc32(text) == checksum else None


def decode_lines(content: bytes, offset: int = 0) -> Lines:
    """All whole lines of ``content``, which begins at ``offset`` of its file.

    After damage, reading goes on behind the next newline: one bad byte costs one line.
    """
    texts: list[bytes] = []
    ends: list[int] = []
    damaged = 0
    begin = 0
    while begin < len(content):
        newline = content.find(b"\n", begin)
        if newline < 0:
            damaged += len(content) - begin
            break
        text = decode_line(content[begin:newline])
        if text is None:
            damaged += newline + 1 - begin
        else:
            texts.append(text)
            ends.append(offset + newline + 1)
        begin = newline + 1
    return Lines(tuple(texts), tuple(ends), damaged)


def segment_path(folder: Path, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"{number:016d}{_SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segments in a folder, oldest first; other files are none of ours."""
    stems = (path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def read_segment(path: Path, offset: int, size: int = -1) -> bytes:
    """At most ``size`` bytes from ``offset`` (-1: all). Raises Unavailable."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise Unavailable(f"cannot read the buffer's {path}: {error.strerror}") from error


class SegmentWriter:
    """The one open segment, at its end. It is always a new file: nothing is appended to what a crash left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._unsynced_folder = True
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as error:
            raise Unavailable(f"cannot write the buffer's {path}: {error.strerror}") from error

    def append(self, block: bytes) -> None:
        """Write whole lines. Raises Unavailable (a full disk, say): close it then, its end may be torn."""
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            raise Unavailable(f"cannot write the buffer's {self.path}: {error.strerror}") from error
        self.size_bytes += len(block)

    def sync(self) -> None:
        """Force what was written to the disk, and the file's name with it the first time."""
        try:
            os.fsync(self._descriptor)
            if self._unsynced_folder:
                folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
                self._unsynced_folder = False
        except OSError as error:
            raise Unavailable(f"cannot sync the buffer's {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close it without a sync."""
        os.close(self._descriptor)
