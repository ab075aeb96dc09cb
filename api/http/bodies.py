"""A request's body with bounds: on its size, packed and unpacked, on the time it takes, on its encodings.

aiohttp's own decompression is off (it answers a truncated gzip body with half of the data and
without a word): here the end of every stream is demanded, and the output is bounded while it
unpacks, so that a bomb costs no more than an honest body of the largest size. ``parse_json`` turns
whatever is no JSON, or none that can be kept, into Invalid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from api.http.encodings import Decompressor, decompressor_of
from schema.errors import Invalid, Overloaded, TooLarge, UnsupportedEncoding

_STEP_BYTES = 64 * 1024
_DEFAULT_NESTING = 64


class Allowance:
    """Bytes of bodies that a process holds at one time. Beyond it, Overloaded at once."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.taken_bytes = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes out of the allowance; all of them go back when the block ends."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.taken_bytes + count > self.capacity_bytes:
                raise Overloaded("too many bodies are arriving at once; try again")
            self.taken_bytes += count
            taken += count

        try:
            yield take
        finally:
            self.taken_bytes -= taken


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """``max_bytes``: as sent, and unpacked. ``arrival_seconds``: from the headers' end to the last byte."""

    max_bytes: int
    arrival_seconds: float


async def read_body(request: web.Request, limits: BodyLimits, allowance: Allowance) -> bytes:
    """The whole body, unpacked.

    The allowance covers it while it arrives; whoever calls uses it up without awaiting anything.
    Raises Invalid (408 when it does not arrive in time), TooLarge, UnsupportedEncoding, Overloaded.
    """
    content = request.content
    encoding = request.headers.get("Content-Encoding")
    if encoding is None and content.is_eof() and content.exception() is None:
        # It came with the headers: nothing to wait for, nothing to hold.
        body = content.read_nowait(-1)
        if len(body) > limits.max_bytes:
            raise _too_large(limits)
        return body
    decompressor = decompressor_of(encoding)
    if (request.content_length or 0) > limits.max_bytes:
        raise _too_large(limits)
    with allowance.share() as take:
        try:
            async with asyncio.timeout(limits.arrival_seconds):
                return await _arrived(content, decompressor, limits, take)
        except TimeoutError:
            raise Invalid(
                f"body: did not arrive within {limits.arrival_seconds:g} s; send it at once", status=408
            ) from None
        except (HttpProcessingError, web.RequestPayloadError, ConnectionError) as error:
            raise Invalid("body: broken off or badly framed; send it again") from error


async def _arrived(
    content: StreamReader,
    decompressor: Decompressor | None,
    limits: BodyLimits,
    take: Callable[[int], None],
) -> bytes:
    pieces: list[bytes] = []
    arrived_bytes = unpacked_bytes = 0
    while chunk := await content.readany():
        arrived_bytes += len(chunk)
        if arrived_bytes > limits.max_bytes:
            raise _too_large(limits)
        for start in range(0, len(chunk), _STEP_BYTES) if decompressor else (0,):
            piece = chunk
            if decompressor is not None:
                room = limits.max_bytes - unpacked_bytes
                piece = decompressor.feed(chunk[start : start + _STEP_BYTES], room)
                if len(piece) > room:
                    raise _too_large(limits)
            take(len(piece))
            unpacked_bytes += len(piece)
            pieces.append(piece)
    if decompressor is not None:
        decompressor.finish()
    return b"".join(pieces)


def _too_large(limits: BodyLimits) -> TooLarge:
    return TooLarge(f"body: more than {limits.max_bytes} bytes; send it in several requests")


def media_type(request: web.Request) -> str:
    """The body's media type, lower case, ``application/json`` if none is given. Raises UnsupportedEncoding.

    JSON is UTF-8: a charset that says otherwise is refused.
    """
    given = request.headers.get("Content-Type")
    if given is None or given == "application/json":
        return "application/json"
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
    for parameter in parameters:
        if parameter.startswith("charset=") and parameter[8:].strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedEncoding("Content-Type: only UTF-8 is read; convert the body")
    return kind


def parse_json(body: bytes, *, max_nesting: int = _DEFAULT_NESTING) -> Any:
    """The value of a JSON text in UTF-8.

    Raises Invalid for anything malformed, numbers beyond a double's range, NaN, lone surrogates, and
    objects and arrays inside one another beyond ``max_nesting`` levels.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"body: no valid JSON in UTF-8 ({error})") from None
    if body.count(b"{") + body.count(b"[") > max_nesting and nested_deeper(value, max_nesting):
        raise Invalid(f"body: objects and arrays inside one another beyond {max_nesting} levels; flatten it")
    return value


def nested_deeper(value: Any, levels: int) -> bool:
    """Whether objects and arrays stand inside one another in more than ``levels`` levels."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return False
    return any(isinstance(child, dict | list) for child in level)
