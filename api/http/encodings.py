"""Content encodings, each unpacked in bounded steps and to its proven end.

A decompressor never gives out much more than there is room for, whatever was packed, and says at the end
whether the stream was whole. gzip and zstd streams may follow on one another (members, frames), in bounded
number; a deflate stream is alone.
"""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard

from schema.errors import Invalid, UnsupportedEncoding

# Each member of a body costs a decompressor: a body of nothing but members must not keep us busy.
_MAX_MEMBERS = 64
_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15
# Low four bits of a zlib stream's first byte. A raw stream never begins so: its first block would be an
# uncompressed one with a padding bit that is not zero.
_ZLIB_METHOD = 8
# The window that every receiver of this content encoding has to have; more is refused.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
# zstandard has no bound on what one call gives out. A block takes 4 bytes at least and gives 128 KiB at most,
# so that a step of this many bytes unpacks to 8 MiB at the very worst.
_ZSTD_STEP_BYTES = 256
# The longest header of a frame, and what the library says of one that does not declare its content's size.
_ZSTD_HEADER_BYTES = 18
_ZSTD_NOT_DECLARED = -1


class Decompressor(Protocol):
    """One content encoding's reader."""

    def feed(self, chunk: bytes, room_bytes: int) -> bytes:
        """Unpack ``chunk``; more than ``room_bytes`` tell that there is more than that. Raises Invalid."""

    def finish(self) -> None:
        """Raises Invalid unless the stream has ended."""


def decompressor_of(encoding: str | None) -> Decompressor | None:
    """The reader of a Content-Encoding; None: nothing to unpack. Raises UnsupportedEncoding."""
    match (encoding or "identity").strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip":
            return GzipMembers()
        case "deflate":
            return DeflateStream()
        case "zstd":
            return ZstdFrames()
        case other:
            raise UnsupportedEncoding(
                f"Content-Encoding: {other[:40]!r} is not read here; send gzip, deflate, zstd or none"
            )


class GzipMembers:
    """A gzip stream of one or several members, each with its end and its checksum."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._members = 1

    def feed(self, chunk: bytes, room_bytes: int) -> bytes:
        """Unpack ``chunk``; stops one byte past ``room_bytes``, so that the caller sees the excess."""
        pieces = []
        left = room_bytes + 1
        while chunk and left > 0:
            if self._member.eof:
                self._members = _one_more(self._members, "gzip members")
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            try:
                piece = self._member.decompress(chunk, left)
            except zlib.error as error:
                raise _corrupt("gzip", error) from error
            left -= len(piece)
            pieces.append(piece)
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return b"".join(pieces)

    def finish(self) -> None:
        """Raises Invalid unless the last member has ended."""
        if not self._member.eof:
            raise _broken_off("gzip")


class DeflateStream:
    """One deflate stream, with zlib's frame and checksum as it should be, or raw as some clients send it."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None

    def feed(self, chunk: bytes, room_bytes: int) -> bytes:
        """Unpack ``chunk``; stops one byte past ``room_bytes``, so that the caller sees the excess."""
        if not chunk:
            return b""
        if self._stream is None:
            framed = chunk[0] & 0x0F == _ZLIB_METHOD
            self._stream = zlib.decompressobj(_ZLIB_WINDOW if framed else _RAW_WINDOW)
        if self._stream.eof:
            raise _more_behind("deflate")
        try:
            piece = self._stream.decompress(chunk, room_bytes + 1)
        except zlib.error as error:
            raise _corrupt("deflate", error) from error
        if self._stream.unused_data:
            raise _more_behind("deflate")
        return piece

    def finish(self) -> None:
        """Raises Invalid unless the stream has ended."""
        if self._stream is None or not self._stream.eof:
            raise _broken_off("deflate")


class ZstdFrames:
    """A zstd stream of one or several frames, each with its end and, where it has one, its checksum."""

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._frames = 0
        self._begin_frame()

    def _begin_frame(self) -> None:
        self._frames = _one_more(self._frames, "zstd frames")
        self._frame = self._context.decompressobj()
        self._header = b""
        self._frame_bytes = 0

    def feed(self, chunk: bytes, room_bytes: int) -> bytes:
        """Unpack ``chunk``; stops at the step that goes past ``room_bytes``."""
        pieces = []
        left = room_bytes
        for start in range(0, len(chunk), _ZSTD_STEP_BYTES):
            step = chunk[start : start + _ZSTD_STEP_BYTES]
            while step and left >= 0:
                if self._frame.eof:
                    self._begin_frame()
                # A frame that the library sees all of at once it judges by other rules: it never does.
                taken = step if self._header else step[:1]
                step = step[len(taken) :]
                if len(self._header) < _ZSTD_HEADER_BYTES:
                    self._header += taken[:_ZSTD_HEADER_BYTES]
                try:
                    piece = self._frame.decompress(taken)
                except zstandard.ZstdError as error:
                    raise _corrupt("zstd", error) from error
                left -= len(piece)
                self._frame_bytes += len(piece)
                pieces.append(piece)
                if self._frame.eof:
                    step = self._frame_end() + step
            if left < 0:
                break
        return b"".join(pieces)

    def _frame_end(self) -> bytes:
        """What follows the frame that has ended. Raises Invalid when it held less than it had declared."""
        # The library sees that itself, except where the last block is empty and the frame came in pieces.
        declared = zstandard.frame_content_size(self._header)
        if declared not in (_ZSTD_NOT_DECLARED, self._frame_bytes):
            raise _broken_off("zstd")
        following: bytes = self._frame.unused_data
        return following

    def finish(self) -> None:
        """Raises Invalid unless the last frame has ended."""
        if not self._frame.eof:
            raise _broken_off("zstd")


def _one_more(count: int, what: str) -> int:
    if count >= _MAX_MEMBERS:
        raise Invalid(f"body: more than {_MAX_MEMBERS} {what}; send it as one stream")
    return count + 1


def _corrupt(encoding: str, error: Exception) -> Invalid:
    return Invalid(f"body: corrupt {encoding} ({error}); send it again")


def _broken_off(encoding: str) -> Invalid:
    return Invalid(f"body: the {encoding} stream breaks off before its end; send all of it")


def _more_behind(encoding: str) -> Invalid:
    return Invalid(f"body: something follows the {encoding} stream; send the stream alone")
