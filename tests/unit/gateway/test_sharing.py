"""Links that share their bytes: never beyond the bound, nobody waits for ever, who holds others up ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gateway.pm2.frames import MESSAGE_COST_BYTES
from ingest.gateway.pm2.sharing import LINK_BYTES, READ_BYTES, TURN_SECONDS, Share, Shares
from tests.support.bounds import AT_AND_ABOVE
from tests.unit.gateway.test_frames import PING, TEXT, frame

PACKET_BYTES = 100_000
CAPACITY_BYTES = 2_000_000
MOST_BYTES = CAPACITY_BYTES - PACKET_BYTES - 2 * READ_BYTES


@dataclass
class Timers:
    """What was asked to be called later."""

    waiting: list[Timer] = field(default_factory=list)

    def later(self, seconds: float, what: Callable[[], None]) -> Timer:
        timer = Timer(self, seconds, what)
        self.waiting.append(timer)
        return timer

    def expire(self, seconds: float) -> None:
        """So much time goes by, and nothing arrives."""
        for timer in self.waiting[:]:
            if timer.seconds <= seconds:
                timer.cancel()
                timer.what()


@dataclass(eq=False)
class Timer:
    timers: Timers
    seconds: float
    what: Callable[[], None]

    def cancel(self) -> None:
        if self in self.timers.waiting:
            self.timers.waiting.remove(self)


class Link:
    """A link with an agent that has a stream to send, and Kafka behind it."""

    def __init__(self, shares: Shares, stream: bytes = b"") -> None:
        self.stream = stream
        self.reading = True
        self.ended = False
        self.packets = 0
        self.kept: list[int] = []
        self.share: Share = shares.enter(self)

    def pause(self) -> None:
        assert self.reading
        self.reading = False

    def resume(self) -> None:
        assert not self.reading
        self.reading = True

    def end_late(self) -> None:
        self.ended = True
        self.share.leave()

    def arrive(self, most_bytes: int = READ_BYTES) -> None:
        """One read of its socket."""
        assert self.reading
        data, self.stream = self.stream[:most_bytes], self.stream[most_bytes:]
        self.share.arrived(data)

    def take(self) -> None:
        """All complete packets are taken out."""
        while self.packets < self.share.frames.packets:
            self.kept.append(self.share.taken())
            self.packets += 1

    def publish(self) -> None:
        kept, self.kept = sum(self.kept), []
        self.share.free(kept)


def beginnings(shares: Shares, size: int) -> list[Link]:
    """As many links with a packet that goes on as the bound lets read."""
    links: list[Link] = []
    while not shares.full:
        links.append(Link(shares, frame(TEXT, bytes(size), final=False)))
        links[-1].arrive()
    return links


def packet(size: int) -> bytes:
    """One that costs so much."""
    head = 8 if 126 <= size - MESSAGE_COST_BYTES - 8 < 1 << 16 else 14
    made = frame(TEXT, bytes(size - MESSAGE_COST_BYTES - head))
    assert len(made) + MESSAGE_COST_BYTES == size
    return made


@AT_AND_ABOVE
def test_beyond_the_most_everybody_waits(beyond: int) -> None:
    timers = Timers()
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, timers.later)
    idle = Link(shares)
    links = [Link(shares, packet(60_000)) for _ in range(MOST_BYTES // 60_000)]
    links.append(Link(shares, packet(MOST_BYTES - 60_000 * len(links) + beyond)))
    for link in links:
        link.arrive()
        link.take()
    assert shares.held_bytes == MOST_BYTES + beyond
    late = Link(shares, packet(5000))
    if not beyond:
        assert all(link.reading for link in [*links, idle, late])
        return
    assert not any(link.reading for link in [*links, idle, late])
    # All of it is in complete packets, which come free by themselves.
    assert not timers.waiting
    # Not before there is room for several.
    links[0].publish()
    assert not late.reading
    for link in links:
        link.publish()
    assert all(link.reading for link in [*links, idle, late])


@AT_AND_ABOVE
def test_a_link_that_holds_much_waits(beyond: int) -> None:
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, Timers().later)
    link, other = Link(shares, packet(LINK_BYTES + beyond)), Link(shares)
    link.arrive()
    link.take()
    assert not link.reading if beyond else link.reading
    assert other.reading
    link.publish()
    assert link.reading


@AT_AND_ABOVE
def test_a_turn_has_its_seconds(beyond: int) -> None:
    timers = Timers()
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, timers.later)
    links = beginnings(shares, 95_000)
    [has_turn] = [link for link in links if link.reading]
    timers.expire(TURN_SECONDS + (0.1 if beyond else -0.1))
    assert has_turn.ended is bool(beyond)
    assert len([link for link in links if link.reading and not link.ended]) == 1


def test_a_full_allowance_of_beginnings_is_used_up_link_by_link() -> None:
    timers = Timers()
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, timers.later)
    links = [Link(shares, packet(90_000)) for _ in range(40)]
    while not shares.full:
        for link in links:
            if link.reading and link.stream:
                link.arrive(50_000)
    [first] = [link for link in links if link.reading]
    first.arrive()
    # Its packet waits for Kafka: nobody else has a turn, and nobody is ended for that.
    assert not any(link.reading for link in links)
    assert not timers.waiting
    first.take()
    assert not any(link.reading for link in links)
    first.publish()
    [second] = [link for link in links if link.reading]
    assert second is not first
    while any(link.stream for link in links):
        for link in links:
            if link.reading and link.stream:
                link.arrive()
                link.take()
                link.publish()
    assert shares.held_bytes == 0
    assert not timers.waiting


def test_who_does_not_use_its_turn_is_ended_and_the_next_has_it() -> None:
    timers = Timers()
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, timers.later)
    links = beginnings(shares, 95_000)
    ended = 0
    while shares.full:
        [has_turn] = [link for link in links if link.reading and not link.ended]
        # Signs of life are no packets.
        has_turn.share.arrived(frame(PING, b"ping"))
        has_turn.share.free(has_turn.share.taken())
        assert has_turn.reading
        timers.expire(TURN_SECONDS)
        assert has_turn.ended
        ended += 1
    assert 0 < ended < 10
    assert not timers.waiting
    assert all(link.reading for link in links if not link.ended)


def test_a_link_that_waits_for_kafka_has_no_turn() -> None:
    """It could not be read even then, and would be ended for it."""
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, Timers().later)
    waiting = Link(shares, packet(30_000) + frame(TEXT, bytes(99_000), final=False))
    waiting.arrive()
    waiting.take()
    links = beginnings(shares, 80_000)
    assert not waiting.reading
    assert [link.reading for link in links].count(True) == 1


def test_turns_that_bring_new_beginnings_do_not_add_up() -> None:
    """Each packet's last piece brings nearly all of the next one."""
    shares = Shares(CAPACITY_BYTES, PACKET_BYTES, Timers().later)
    links = [Link(shares, packet(6000) + packet(90_000) * 3) for _ in range(400)]
    for link in links:
        if not shares.full:
            link.arrive(5000)
    most = 0
    while able := [link for link in links if link.reading and link.stream]:
        able[0].arrive(1000 if len(able[0].stream) % 90_000 == 1000 else 89_000)
        able[0].take()
        able[0].publish()
        most = max(most, shares.held_bytes)
    assert MOST_BYTES < most <= MOST_BYTES + PACKET_BYTES
    assert not any(link.stream for link in links)


def test_a_packet_must_have_room() -> None:
    with pytest.raises(ValueError, match="room"):
        Shares(PACKET_BYTES, PACKET_BYTES, Timers().later)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1000, PACKET_BYTES), min_size=1, max_size=30), min_size=2, max_size=30),
    st.data(),
)
def test_never_beyond_the_bound_and_everything_arrives(streams: list[list[int]], data: st.DataObject) -> None:
    """Whoever is read brings as much as a read can; Kafka acknowledges in any order."""
    timers = Timers()
    shares = Shares(CAPACITY_BYTES // 2, PACKET_BYTES, timers.later)
    links = [Link(shares, b"".join(map(packet, sizes))) for sizes in streams]
    random = data.draw(st.randoms(use_true_random=False))
    while True:
        able = [link for link in links if (link.reading and link.stream) or link.kept]
        if not able:
            break
        link = random.choice(able)
        if link.kept and random.random() < 0.5:
            link.publish()
        elif link.reading and link.stream:
            link.arrive(random.randint(1, READ_BYTES))
            link.take()
        assert shares.held_bytes <= CAPACITY_BYTES // 2
    assert not any(link.stream for link in links), "somebody waits for ever"
    assert [link.packets for link in links] == [len(sizes) for sizes in streams]
    assert shares.held_bytes == 0
    assert not shares.full
