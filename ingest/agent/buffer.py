"""A queue on disk: what was put is there until it was answered for, also over kill -9 and torn writes.

The client appends stamped lines, one sender takes batches from the front and moves the front on. The
folder holds numbered segments, ``front`` (the position before which everything is done) and ``lock`` (one
process a folder). Guarantees:

- ``append`` returns after the lines were handed to the kernel: a killed process loses none of them. A power
  cut may lose what is younger than ``sync_seconds``; 0 forces every append to the disk.
- ``front`` moves after the answer and is written beside the old one, then renamed: a crash in between
  makes a batch go out again, never the other way round. Repeats carry the same identity.
- The folder stays within ``max_bytes``: the oldest segments go first, counted in ``dropped_events``.

Every method may be called from any thread; those that touch the disk block.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingest.agent.segments import (
    SegmentWriter,
    decode_line,
    decode_lines,
    encode_line,
    read_segment,
    segment_numbers,
    segment_path,
)
from schema.errors import Invalid, TooLarge, Unavailable

_SEGMENTS = 16
_MAX_SEGMENT_BYTES = 4 * 1024 * 1024


class Position(NamedTuple):
    """A place between two lines."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines from the front of the queue, and the place behind each."""

    lines: tuple[bytes, ...]
    ends: tuple[Position, ...]


@dataclass(slots=True)
class _Segment:
    number: int
    size_bytes: int
    waiting: int
    """Lines at or behind the front."""


class Buffer:
    """Opening one reads what is in its folder. Raises Invalid if another process holds it."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        sync_seconds: float = 1.0,
        segment_bytes: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes or min(max_bytes // _SEGMENTS, _MAX_SEGMENT_BYTES)
        self._sync_seconds = sync_seconds
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._synced_at = monotonic()
        self._unsynced = False
        self._writer: SegmentWriter | None = None
        self._segments: deque[_Segment] = deque()
        self._taken_ends: tuple[Position, ...] = ()
        self.dropped_events = 0
        self.damaged_bytes = 0
        self._lock_descriptor = _locked(folder)
        try:
            self._front = self._read_front()
            self._next_number = self._front.segment + 1
            self._scan()
        except BaseException:
            os.close(self._lock_descriptor)
            raise

    @property
    def waiting_events(self) -> int:
        """Lines that were not answered for yet."""
        return sum(segment.waiting for segment in list(self._segments))

    @property
    def size_bytes(self) -> int:
        """Size of all segments."""
        return sum(segment.size_bytes for segment in list(self._segments))

    def append(self, texts: Sequence[bytes]) -> int:
        """Put lines at the end; the number of old ones that had to go for them.

        Raises TooLarge for a text that a whole folder cannot hold, Unavailable if the disk does not take
        them; then the lines of this call from that one on are not in the buffer.
        """
        lines = [encode_line(text) for text in texts]
        if any(len(line) > self._max_bytes for line in lines):
            raise TooLarge(f"one event is larger than the whole buffer ({self._max_bytes} bytes)")
        with self._guard:
            dropped_before = self.dropped_events
            for block, count in self._blocks(lines):
                self._make_room(len(block))
                self._write(block, count)
            if self._unsynced and self._monotonic() - self._synced_at >= self._sync_seconds:
                self._sync()
            return self.dropped_events - dropped_before

    def take(self, *, max_events: int, max_bytes: int) -> Batch | None:
        """The oldest lines, at least one, of one segment; None if nothing waits.

        They stay in front until ``advance``; the next call returns them again. Raises Unavailable.
        """
        with self._guard:
            while segment := self._head():
                path = segment_path(self._folder, segment.number)
                offset = self._front.offset
                found = decode_lines(read_segment(path, offset, max_bytes), offset)
                if not found.texts:
                    # A line longer than max_bytes, or damage as long: look further, once.
                    found = decode_lines(read_segment(path, offset, segment.size_bytes - offset), offset)
                    found = type(found)(found.texts[:1], found.ends[:1], found.damaged_bytes)
                if found.texts:
                    ends = tuple(Position(segment.number, end) for end in found.ends[:max_events])
                    self._taken_ends = ends
                    return Batch(found.texts[:max_events], ends)
                # Its lines were whole when they were counted and no longer are.
                self.damaged_bytes += found.damaged_bytes
                self._drop(segment)
            return None

    def advance(self, position: Position) -> None:
        """Everything before ``position`` is done. A place behind the front changes nothing."""
        with self._guard:
            segment = self._segments[0] if self._segments else None
            if position <= self._front or segment is None or position.segment != segment.number:
                return
            done = bisect_right(self._taken_ends, position) - bisect_right(self._taken_ends, self._front)
            segment.waiting -= done
            self._front = position
            self._write_front()
            if segment.waiting == 0 and not self._is_open(segment):
                self._remove_oldest()

    def sync(self) -> None:
        """Force to the disk what is not there yet. Raises Unavailable."""
        with self._guard:
            self._sync()

    def close(self) -> None:
        """Sync, and let another process have the folder."""
        with self._guard:
            try:
                self._close_writer()
            finally:
                os.close(self._lock_descriptor)

    def _head(self) -> _Segment | None:
        while self._segments and self._segments[0].waiting <= 0:
            if self._is_open(self._segments[0]):
                return None
            self._remove_oldest()
        if not self._segments:
            return None
        segment = self._segments[0]
        if self._front.segment < segment.number:
            self._front = Position(segment.number, 0)
        return segment

    def _is_open(self, segment: _Segment) -> bool:
        return self._writer is not None and segment is self._segments[-1]

    def _blocks(self, lines: Sequence[bytes]) -> list[tuple[bytes, int]]:
        blocks: list[tuple[bytes, int]] = []
        gathered: list[bytes] = []
        size = 0
        for line in lines:
            if gathered and size + len(line) > self._segment_bytes:
                blocks.append((b"".join(gathered), len(gathered)))
                gathered, size = [], 0
            gathered.append(line)
            size += len(line)
        if gathered:
            blocks.append((b"".join(gathered), len(gathered)))
        return blocks

    def _make_room(self, size: int) -> None:
        if self._writer is not None and self._writer.size_bytes + size > self._segment_bytes:
            self._close_writer()
        while (
            self._segments and sum(segment.size_bytes for segment in self._segments) + size > self._max_bytes
        ):
            if self._is_open(self._segments[0]):
                self._close_writer()
            self._drop(self._segments[0])

    def _write(self, block: bytes, count: int) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(segment_path(self._folder, self._next_number))
            self._segments.append(_Segment(self._next_number, 0, 0))
            self._next_number += 1
        try:
            self._writer.append(block)
        except Unavailable:
            self._close_writer()
            raise
        segment = self._segments[-1]
        segment.size_bytes += len(block)
        segment.waiting += count
        self._unsynced = True

    def _drop(self, segment: _Segment) -> None:
        # A batch of it may be on its way at this moment: then it counts as dropped although it arrives.
        self.dropped_events += max(segment.waiting, 0)
        if self._is_open(segment):
            self._close_writer()
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        # The front on disk may stay where it is: a segment that is gone is as good as done.
        segment = self._segments.popleft()
        self._front = max(self._front, Position(segment.number, segment.size_bytes))
        segment_path(self._folder, segment.number).unlink(missing_ok=True)

    def _sync(self) -> None:
        if self._writer is not None and self._unsynced:
            self._writer.sync()
        self._unsynced = False
        self._synced_at = self._monotonic()

    def _close_writer(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                if self._unsynced:
                    writer.sync()
                self._unsynced = False
            finally:
                writer.close()

    def _read_front(self) -> Position:
        try:
            text = decode_line((self._folder / "front").read_bytes().rstrip(b"\n"))
        except FileNotFoundError:
            return Position(0, 0)
        except OSError as error:
            raise Unavailable(f"cannot read the buffer in {self._folder}: {error.strerror}") from error
        if text is None:
            # Better everything again, which identities make harmless, than to guess.
            return Position(0, 0)
        segment, offset = text.split()
        return Position(int(segment), int(offset))

    def _write_front(self) -> None:
        beside = self._folder / "front.new"
        try:
            beside.write_bytes(encode_line(b"%d %d" % self._front))
            beside.replace(self._folder / "front")
        except OSError as error:
            raise Unavailable(f"cannot write the buffer's {beside}: {error.strerror}") from error

    def _scan(self) -> None:
        for number in segment_numbers(self._folder):
            path = segment_path(self._folder, number)
            self._next_number = max(self._next_number, number + 1)
            offset = self._front.offset if number == self._front.segment else 0
            found = decode_lines(read_segment(path, offset), offset)
            size = path.stat().st_size
            if number < self._front.segment or not found.texts:
                path.unlink()
            else:
                self._segments.append(_Segment(number, size, len(found.texts)))
            if number >= self._front.segment:
                self.damaged_bytes += found.damaged_bytes


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Invalid(f"cannot keep a buffer in {folder}: {error.strerror}; choose another folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Invalid(
            f"another process holds the buffer in {folder}; give each a folder of its own"
        ) from None
    return descriptor
