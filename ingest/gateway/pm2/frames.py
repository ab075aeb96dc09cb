"""Which bytes of a WebSocket's stream belong to which message: counted, not kept. Pure.

aiohttp takes the messages out of the stream and does not say what it holds meanwhile. So the stream is
followed beside it, header by header. Each message costs a little more than its bytes: what aiohttp makes for
it, and for each piece of it that arrives by itself. Bytes that are no frames are counted like any others;
aiohttp ends such a link.
"""

from __future__ import annotations

from collections import deque

# A message's objects, until it is taken out or becomes an event's; a piece's, until its message is complete.
MESSAGE_COST_BYTES = 512
PIECE_COST_BYTES = 64
_FINAL = 0x80
_CONTROL = 0x08
_MASKED = 0x80
_LENGTH = 0x7F
# Bytes of a length that is too long for its seven bits.
_LONGER = {126: 2, 127: 8}


class Frames:
    """What a link has brought: ``whole_bytes`` in complete messages, ``unfinished_bytes`` of the next one."""

    __slots__ = (
        "_control",
        "_costs",
        "_final",
        "_frame_bytes",
        "_header",
        "_left_bytes",
        "_parts_bytes",
        "packets",
        "whole_bytes",
    )

    def __init__(self) -> None:
        self.whole_bytes = 0
        # How many were completed, control frames apart.
        self.packets = 0
        # One for each complete message that was not taken yet.
        self._costs: deque[int] = deque()
        # Of the frame that is arriving: its header as far as it is there, what it cost so far, what it lacks.
        self._header = b""
        self._frame_bytes = 0
        self._left_bytes = 0
        self._final = self._control = False
        # Frames that are complete, of a message that is not.
        self._parts_bytes = 0

    @property
    def unfinished_bytes(self) -> int:
        """What the message that is arriving has cost so far; 0: none is."""
        return self._parts_bytes + self._frame_bytes

    def arrived(self, data: bytes) -> None:
        """The next bytes of the stream."""
        position, end = 0, len(data)
        while position < end:
            if not self._left_bytes:
                position = self._read_header(data, position)
                if self._header:
                    return
            step = min(self._left_bytes, end - position)
            position += step
            self._left_bytes -= step
            self._frame_bytes += step
            if not self._left_bytes:
                self._end_frame()
        if self._frame_bytes:
            self._frame_bytes += PIECE_COST_BYTES

    def taken(self) -> int:
        """The oldest complete message was taken out: what it cost, in bytes."""
        cost = self._costs.popleft()
        self.whole_bytes -= cost
        return cost

    def _read_header(self, data: bytes, position: int) -> int:
        """Where it ends; where the data end, if some of it is missing."""
        known = len(self._header)
        header = self._header + data[position : position + 14 - known]
        size = _header_bytes(header)
        if len(header) < size:
            self._frame_bytes += len(header) - known
            self._header = header
            return len(data)
        self._frame_bytes += size - known
        self._header = b""
        self._final = bool(header[0] & _FINAL)
        self._control = bool(header[0] & _CONTROL)
        length = header[1] & _LENGTH
        longer = _LONGER.get(length)
        self._left_bytes = length if longer is None else int.from_bytes(header[2 : 2 + longer], "big")
        return position + size - known

    def _end_frame(self) -> None:
        cost, self._frame_bytes = self._frame_bytes, 0
        if not self._control:
            self._parts_bytes += cost
            if not self._final:
                return
            # A control frame may come between the frames of a message.
            cost, self._parts_bytes = self._parts_bytes, 0
            self.packets += 1
        cost += MESSAGE_COST_BYTES
        self._costs.append(cost)
        self.whole_bytes += cost


def _header_bytes(header: bytes) -> int:
    """How long a frame's header is, as far as its beginning says."""
    if len(header) < 2:
        return 2
    longer = _LONGER.get(header[1] & _LENGTH, 0)
    return 2 + longer + (4 if header[1] & _MASKED else 0)
