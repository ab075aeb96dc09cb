"""Which web pages may call a door from a browser (CORS). Nothing of it runs unless origins are allowed.

A preflight is answered before anything else, from its headers alone. Every other answer to an allowed
origin, refusals included, says so. There are no cookies here: a key comes in a header, so an answer never
speaks of credentials. A page that is not allowed gets what anybody gets, and its browser keeps it from it.
"""

from __future__ import annotations

import re

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*")
# Longer than any browser remembers a preflight.
_MAX_AGE_SECONDS = "86400"
_MOST_HEADER_BYTES = 1024
_EXPOSED = "Retry-After, X-Request-Id, X-Weir-Receipt"


class Origins:
    """The allowed origins. ``allowed``: comma-separated, ``*`` for any. ``methods``: what the door serves."""

    def __init__(self, allowed: str, methods: str) -> None:
        self._any = allowed.strip() == "*"
        self._allowed = frozenset(origin.strip().lower() for origin in allowed.split(",") if origin.strip())
        self._methods = methods

    def __bool__(self) -> bool:
        return bool(self._allowed)

    @property
    def middleware(self) -> Middleware:
        """The outermost middleware of an application."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answered(request, handler)

        return answer

    def around(self, handler: Handler) -> Handler:
        """The same for one handler that is reached without the application's middleware."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answered(request, handler)

        return answer

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = self._granted(request.headers.get(hdrs.ORIGIN))
        if origin is None:
            response = await handler(request)
        elif request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            response = self._preflight(request)
        else:
            response = await handler(request)
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED
        if not response.prepared:
            if origin is not None:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            if not self._any:
                response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        return response

    def _granted(self, origin: str | None) -> str | None:
        """What an answer to this origin says; None: nothing."""
        if origin is None or not (self._any or origin.lower() in self._allowed):
            return None
        return "*" if self._any else origin

    def _preflight(self, request: web.Request) -> web.Response:
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: self._methods,
            hdrs.ACCESS_CONTROL_MAX_AGE: _MAX_AGE_SECONDS,
        }
        # Whatever it wants to send it may: a header that we do not know is one that we do not read.
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        if len(wanted) <= _MOST_HEADER_BYTES and _HEADER_NAMES.fullmatch(wanted):
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
        return web.Response(status=204, headers=headers)
