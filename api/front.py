"""The page that a browser finds first: what this is, and where to read on. The console comes later."""

from __future__ import annotations

from aiohttp import web

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Weir</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 3rem auto; padding: 0 1rem; }
code { background: #8882; padding: .1em .3em; border-radius: .2em; }
td { padding: .2em 1em .2em 0; vertical-align: top; }
td code { white-space: nowrap; }
</style>
<h1>Weir</h1>
<p>Events in over HTTP, stored exactly once, counted exactly. This is the query API.</p>
<p>Send <code>Authorization: Bearer</code> and an access token, or <code>X-Api-Key</code> and a key of the
bucket. The first calls to try:</p>
<table>
<tr><td><code>POST /api/bucket/{id}/data/events</code><td>Events by name, newest first.
<tr><td><code>POST /api/bucket/{id}/data/events/stats</code><td>How many over time: points of a histogram.
<tr><td><code>GET /api/bucket/{id}/data/eventsKeysByApp</code><td>Names and counts by app.
<tr><td><code>DELETE /api/bucket/{id}/data/events/delete_all</code><td>Delete all events of the bucket.
</table>
<p>Read your own writes: send the gateway's <code>receipt</code> along as <code>X-Weir-Receipt</code>.</p>
<p>Look: <a href="watch">a bucket's events while they arrive</a>.</p>
<p>Read on: <a href="docs">every call of this door</a>, to read and to try (<a href="openapi.json">as
OpenAPI</a>), and the folder <code>docs/</code> of the sources. Is it well? <a href="readyz">/readyz</a>,
<a href="healthz">/healthz</a>, <a href="metrics">/metrics</a>.</p>
</html>
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def add_front_routes(app: web.Application) -> None:
    """Serve ``/``."""
    app.router.add_get("/", _front)


async def _front(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)
