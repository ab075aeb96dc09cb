"""Frames are counted as aiohttp reads them, however the stream is cut into pieces."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import pytest
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketReader
from hypothesis import given
from hypothesis import strategies as st

from ingest.gateway.pm2.frames import MESSAGE_COST_BYTES, PIECE_COST_BYTES, Frames

TEXT, BINARY, CONTINUATION, PING, PONG = 1, 2, 0, 9, 10


def frame(opcode: int, payload: bytes, *, final: bool = True, mask: bytes | None = b"\1\2\3\4") -> bytes:
    length = len(payload)
    first, masked = (0x80 if final else 0) | opcode, 0x80 if mask else 0
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask is None:
        return head + payload
    masks = (mask * (length // 4 + 1))[:length]
    masked_payload = int.from_bytes(payload, "big") ^ int.from_bytes(masks, "big")
    return head + mask + masked_payload.to_bytes(length, "big")


payloads = st.one_of(
    st.binary(max_size=5), st.sampled_from([125, 126, 127, 300, 65_535, 65_536, 70_000]).map(bytes)
)
masks = st.sampled_from([None, b"\0\1\2\3"])
controls = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=masks)


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """One message's frames, with control frames between and behind them."""
    parts = draw(st.lists(payloads, min_size=1, max_size=4))
    found: list[bytes] = []
    mask = draw(masks)
    for at, part in enumerate(parts):
        opcode = draw(st.sampled_from([TEXT, BINARY])) if at == 0 else CONTINUATION
        found.append(frame(opcode, part, final=at == len(parts) - 1, mask=mask))
        found += draw(st.lists(controls, max_size=2))
    return found


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    found = asyncio.new_event_loop()
    yield found
    found.close()


@given(st.lists(messages(), max_size=5), st.data())
def test_messages_are_complete_when_aiohttp_says_so(
    loop: asyncio.AbstractEventLoop, sent: list[list[bytes]], data: st.DataObject
) -> None:
    stream = b"".join(one for message in sent for one in message)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    queue = WebSocketDataQueue(BaseProtocol(loop), 1 << 24, loop=loop)
    reader = WebSocketReader(queue, 1 << 24, compress=False, decode_text=False)
    frames = Frames()
    taken_bytes = 0
    for pieces, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(stream)], strict=True), 1):
        failed, _ = reader.feed_data(stream[start:end])
        assert not failed
        frames.arrived(stream[start:end])
        while queue._buffer:
            payload = queue._buffer.popleft()[0].data
            cost = frames.taken()
            assert cost >= len(payload) + MESSAGE_COST_BYTES + 2
            taken_bytes += cost - MESSAGE_COST_BYTES
        # Nothing that aiohttp does not have, and nothing that arrived is forgotten.
        assert frames.whole_bytes == 0
        counted = taken_bytes + frames.unfinished_bytes
        assert end <= counted <= end + pieces * PIECE_COST_BYTES
    assert frames.unfinished_bytes == 0
    assert frames.packets == len(sent)


def test_bytes_that_arrive_one_by_one_cost_more_than_themselves() -> None:
    frames = Frames()
    stream = frame(TEXT, bytes(1000))
    for at in range(500):
        frames.arrived(stream[at : at + 1])
    assert frames.unfinished_bytes > 500 * PIECE_COST_BYTES * 0.9


def test_no_stream_is_too_strange() -> None:
    frames = Frames()
    frames.arrived(b"\xff" * 100_000)
    frames.arrived(bytes(100_000))
    assert frames.whole_bytes + frames.unfinished_bytes >= 200_000
