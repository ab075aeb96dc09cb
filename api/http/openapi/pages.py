"""Where a door's description is served: /openapi.json, and /docs, where swagger-ui shows it.

swagger-ui's files come with an installed package, so the page needs nothing from anywhere else; the
Content-Security-Policy says so to the browser. The document is made when it is first asked for: a process
that nobody asks does not pay for it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import orjson
from aiohttp import web

from api.http.openapi.document import About, document
from api.http.openapi.operations import Operation

# A package for another tool; of it, only the files of swagger-ui are used.
_BUNDLE = Path(str(files("mkdocs_swagger_ui_tag"))) / "swagger-ui"
_OURS = Path(str(files(__package__)))
_FILES = {
    "swagger-ui.css": (_BUNDLE / "stylesheets/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (_BUNDLE / "javascripts/swagger-ui-bundle.js", "text/javascript"),
    "start.js": (_OURS / "start.js", "text/javascript"),
    "page.css": (_OURS / "page.css", "text/css"),
}
_NOT_SNIFFED = {"X-Content-Type-Options": "nosniff"}
# swagger-ui's pictures are data: URLs in its style sheet; whatever else it needs comes from this door.
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    **_NOT_SNIFFED,
}


def add_description_routes(app: web.Application, about: About, operations: Sequence[Operation]) -> None:
    """Serve the description of ``operations``, and the page with its files."""

    @functools.cache
    def text() -> bytes:
        return orjson.dumps(document(about, operations))

    async def description(_request: web.Request) -> web.Response:
        # In a thread: the first call makes it, and others go on being answered meanwhile.
        body = await asyncio.to_thread(text)
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-cache"})

    app.router.add_get("/openapi.json", description)
    app.router.add_get("/docs", _page)
    app.router.add_get("/docs/{file}", _file)


async def _page(_request: web.Request) -> web.Response:
    return web.Response(body=_page_text(), content_type="text/html", charset="utf-8", headers=_POLICY)


@functools.cache
def _page_text() -> bytes:
    return (_OURS / "page.html").read_bytes()


async def _file(request: web.Request) -> web.StreamResponse:
    found = _FILES.get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    path, media_type = found
    return web.FileResponse(
        path,
        headers={"Content-Type": f"{media_type}; charset=utf-8", "Cache-Control": "no-cache", **_NOT_SNIFFED},
    )
