"""The live chart: one page that shows a bucket's events while they arrive.

``chart.html``, ``chart.css`` and ``chart.js`` are sent as they are. The page asks the same calls as
everybody (names, histograms, the live feed) with the credential that stands behind the ``#`` of its own
address, which a browser never sends to a server. Nothing is loaded from elsewhere; the policy says so.
"""

from __future__ import annotations

import functools
from importlib.resources import files

from aiohttp import web

_FILES = {"chart.css": "text/css", "chart.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_watch_routes(app: web.Application) -> None:
    """Serve the page and its two files."""
    app.router.add_get("/watch", _page)
    app.router.add_get("/watch/{file}", _file)


async def _page(_request: web.Request) -> web.Response:
    return _sent("chart.html", "text/html")


async def _file(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    if (media_type := _FILES.get(name)) is None:
        raise web.HTTPNotFound
    return _sent(name, media_type)


def _sent(name: str, media_type: str) -> web.Response:
    return web.Response(body=_read(name), content_type=media_type, charset="utf-8", headers=_HEADERS)


@functools.cache
def _read(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
