"""``GET /primus?token=…``: the live feed as clients of the bucket API follow it, over a WebSocket.

They send ``{"action": "sub", "public_id", "filters"}``, and get frames (``live.frames``) and nothing else:
they take no other JSON. So whatever is refused is said by closing, after which they do not come again; and
where they should come again (a slow one, a full process, one that stops) the connection is dropped without a
word. docs/realtime.md has it in full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Literal

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api.http.authentication import Credential, credential_of
from api.live.feeds import Feeds
from api.live.subscribers import Ending, Subscriber
from schema.errors import Denied, Invalid, Overloaded, Unavailable, WeirError
from schema.events import first_problem
from schema.settings import ApiSettings

log = structlog.get_logger(__name__)

PATH = "/primus"
_HEARTBEAT_SECONDS = 20.0
# For a close frame to go out and its answer to come.
_CLOSE_SECONDS = 2.0
# Of a close frame: 125 bytes hold the code and the reason.
_REASON_CHARACTERS = 100
# Endings that are said; after any other, the subscriber should come again.
_SAID = frozenset({Ending.DENIED, Ending.INVALID})


class Message(BaseModel):
    """What a subscriber says: follow a bucket, by patterns of keys, or follow it no longer."""

    model_config = ConfigDict(extra="ignore", frozen=True, title="LiveMessage")

    action: Literal["sub", "unsub"]
    public_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    filters: Annotated[
        list[Annotated[str, StringConstraints(max_length=200)]],
        Field(max_length=100, description="Patterns of keys; none, or an empty one among them: all."),
    ] = []


class Primus:
    """The route, and its connections."""

    def __init__(self, settings: ApiSettings, feeds: Feeds) -> None:
        self._settings = settings
        self._feeds = feeds

    def add_routes(self, app: web.Application) -> None:
        """Serve it."""
        app.router.add_get(PATH, self.answer, allow_head=False)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Hold one connection until it ends.

        Raises Denied (401), Invalid (426; 429 for one caller's too many), Overloaded, Unavailable.
        """
        socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS,
            heartbeat=_HEARTBEAT_SECONDS,
            # The library refuses what reaches its bound.
            max_msg_size=self._settings.live_message_bytes + 1,
            # Each connection would keep tables of its own, for frames that are short.
            compress=False,
        )
        upgrade = socket.can_prepare(request).ok
        try:
            credential = _credential(request.query, request.headers)
            caller = await self._feeds.caller(credential)
            if not upgrade:
                raise Invalid("a WebSocket is opened here, and nothing else", status=426)
            subscriber = await self._feeds.open(credential, caller)
        except (Overloaded, Unavailable):
            # Any answer but a 101 is the end of it for these clients; a lost connection is not.
            if upgrade:
                _hang_up(request, said=False)
            raise
        try:
            await socket.prepare(request)
            await _Conversation(self._feeds, subscriber, socket).run()
        finally:
            self._feeds.leave(subscriber)
            _hang_up(request, said=subscriber.ending is None or subscriber.ending in _SAID)
        return socket


class _Conversation:
    def __init__(self, feeds: Feeds, subscriber: Subscriber, socket: web.WebSocketResponse) -> None:
        self._feeds = feeds
        self._subscriber = subscriber
        self._socket = socket

    async def run(self) -> None:
        """Listen and send until one of both ends, or the subscriber is let go."""
        tasks = [asyncio.create_task(part) for part in (self._listen(), self._send(), self._ended())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for error in results:
            if isinstance(error, Exception) and not isinstance(error, WeirError | ConnectionError):
                log.error("live connection failed", exc_info=error)
        if self._subscriber.ending in _SAID:
            reason = self._subscriber.reason[:_REASON_CHARACTERS].encode("ascii", "replace")
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason)
            except TimeoutError:
                log.info("subscriber did not take its close frame")

    async def _ended(self) -> None:
        await self._subscriber.ended.wait()

    async def _send(self) -> None:
        while True:
            frame = await self._subscriber.next_frame()
            await self._socket.send_frame(frame, WSMsgType.TEXT)

    async def _listen(self) -> None:
        async for said in self._socket:
            if said.type is not WSMsgType.TEXT:
                self._feeds.end(self._subscriber, Ending.INVALID, "message: must be text")
                return
            try:
                await self._heed(Message.model_validate_json(said.data))
            except ValidationError as error:
                self._feeds.end(self._subscriber, Ending.INVALID, first_problem(error, "message"))
            except Invalid as error:
                self._feeds.end(self._subscriber, Ending.INVALID, error.message)
            except Denied as error:
                self._feeds.end(self._subscriber, Ending.DENIED, error.message)
            except Unavailable as error:
                log.warning("subscription not decided", reason=error.message)
                self._feeds.end(self._subscriber, Ending.UNCONFIRMED, "the database does not answer")

    async def _heed(self, message: Message) -> None:
        if message.action == "sub":
            await self._feeds.subscribe(self._subscriber, message.public_id, message.filters)
        else:
            self._feeds.unsubscribe(self._subscriber, message.public_id)


def _hang_up(request: web.Request, *, said: bool) -> None:
    """Close the connection: at once, unless all that was ``said`` on it has gone out."""
    transport = request.transport
    if transport is not None and not (said and transport.get_write_buffer_size() == 0):
        transport.abort()


def _credential(query: Mapping[str, str], headers: Mapping[str, str]) -> Credential:
    """The token of the query string, since browsers send no header here; else that of the headers."""
    given = credential_of({"Authorization": f"Bearer {query.get('token', '')}"}) or credential_of(headers)
    if given is None:
        raise Denied("no credential; send ?token= and an access token, or X-Api-Key", status=401)
    return given
