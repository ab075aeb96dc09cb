"""What all links of a gateway hold together, bounded: who is read, who waits, and whose turn it is.

``api.http.bodies.Allowance`` refuses at once what is beyond it; an agent could not be told so, so here it
waits instead: its link is not read further, and what it sends stays in the sockets' buffers and with it.

A link holds complete packets (not taken out, or not published yet) and the beginning of the next one.
Complete ones come free by themselves: they are published, or the link's patience ends. A beginning does not,
and with an allowance full of beginnings everybody would wait for ever. So while it is full one link after the
other has its turn: of those that hold nothing but a beginning the one that holds most is read until its
packet is complete, and the turn ends when that has come free, too. Then less is held than before, since
what its last piece brought of yet another packet is a smaller beginning, or the turn is its own again. Room
for one packet is set aside. Whoever does not bring the rest within ``TURN_SECONDS`` is ended.

A link that holds much itself waits whatever the others do. Pure, but for the timer that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ingest.gateway.pm2.frames import Frames

# For the rest of a packet that was made to wait, and its agent with it.
TURN_SECONDS = 5.0
# In complete packets of one link; beyond it, it waits.
LINK_BYTES = 64 * 1024
# One read of a socket brings at most so much.
READ_BYTES = 256 * 1024


class Timer(Protocol):
    """What ``loop.call_later`` gives."""

    def cancel(self) -> None:
        """Not any more."""


CallLater = Callable[[float, Callable[[], None]], Timer]


class Reading(Protocol):
    """A link, as far as it is told what to do."""

    def pause(self) -> None:
        """Read no further."""

    def resume(self) -> None:
        """Read on."""

    def end_late(self) -> None:
        """End: it had its turn and brought nothing to its end."""


class Shares:
    """All links' shares. ``capacity_bytes``: never more than that; ``packet_bytes``: one at most.

    Raises ValueError where one of them has no room.
    """

    def __init__(self, capacity_bytes: int, packet_bytes: int, call_later: CallLater) -> None:
        self.held_bytes = 0
        self.full = False
        # Set aside: the read that makes it full, a packet in its turn, and what comes with its last piece.
        self._most_bytes = capacity_bytes - packet_bytes - 2 * READ_BYTES
        if self._most_bytes <= 0:
            raise ValueError(f"{capacity_bytes} bytes have no room for a packet of {packet_bytes}")
        self._enough_bytes = self._most_bytes * 3 // 4
        self._call_later = call_later
        self._shares: set[Share] = set()
        self._turn: Share | None = None
        self._turn_packets = 0
        self._turn_end: Timer | None = None

    def enter(self, link: Reading) -> Share:
        """A new link's share; it has to ``leave``."""
        share = Share(self, link)
        self._shares.add(share)
        share.settle()
        return share

    def forget(self, share: Share) -> None:
        """Its link is gone."""
        self._shares.discard(share)
        if share is self._turn:
            self._end_turn()

    def has_turn(self, share: Share) -> bool:
        """Whether it is read although everybody waits."""
        return share is self._turn and self._turn_end is not None

    def changed(self, share: Share, by_bytes: int) -> None:
        """A share holds so much more, or less."""
        self.held_bytes += by_bytes
        if not self.full and self.held_bytes > self._most_bytes:
            self.full = True
            self._settle_all()
        elif self.full and self.held_bytes <= self._enough_bytes:
            self.full = False
            self._end_turn()
            self._settle_all()
        else:
            share.settle()
        if self.full:
            self._next_turn()

    def _settle_all(self) -> None:
        for share in self._shares:
            share.settle()

    def _next_turn(self) -> None:
        last = self._turn
        if last is not None:
            if last.frames.packets == self._turn_packets:
                return
            self._stop_timer()
            last.settle()
            if last.whole_bytes:
                return
        begun = (one for one in self._shares if one.frames.unfinished_bytes and not one.whole_bytes)
        self._turn = share = max(begun, key=_unfinished_bytes, default=None)
        if share is not None:
            self._turn_packets = share.frames.packets
            self._turn_end = self._call_later(TURN_SECONDS, share.link.end_late)
            share.settle()

    def _end_turn(self) -> None:
        self._turn = None
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._turn_end is not None:
            self._turn_end.cancel()
            self._turn_end = None


class Share:
    """What one link holds."""

    __slots__ = ("_held_bytes", "_kept_bytes", "_shares", "frames", "link", "paused")

    def __init__(self, shares: Shares, link: Reading) -> None:
        self.link = link
        self.frames = Frames()
        self.paused = False
        self._shares = shares
        self._kept_bytes = 0
        self._held_bytes = 0

    @property
    def whole_bytes(self) -> int:
        """In complete packets that have not come free."""
        return self.frames.whole_bytes + self._kept_bytes

    def arrived(self, data: bytes) -> None:
        """The next bytes of the link's stream."""
        self.frames.arrived(data)
        self._count()

    def taken(self) -> int:
        """The oldest complete packet was taken out. It is held until ``free`` is told what this gives."""
        cost = self.frames.taken()
        self._kept_bytes += cost
        return cost

    def free(self, count: int) -> None:
        """So much of what was taken out is not held any more."""
        self._kept_bytes -= count
        self._count()

    def leave(self) -> None:
        """The link is gone, and with it whatever it held."""
        self.frames = Frames()
        self._kept_bytes = 0
        self._shares.forget(self)
        self._count()

    def settle(self) -> None:
        """Read, or wait, as things stand now."""
        paused = self.whole_bytes > LINK_BYTES or (self._shares.full and not self._shares.has_turn(self))
        if paused is not self.paused:
            self.paused = paused
            if paused:
                self.link.pause()
            else:
                self.link.resume()

    def _count(self) -> None:
        held_bytes = self.whole_bytes + self.frames.unfinished_bytes
        by_bytes, self._held_bytes = held_bytes - self._held_bytes, held_bytes
        self._shares.changed(self, by_bytes)


def _unfinished_bytes(share: Share) -> int:
    return share.frames.unfinished_bytes
