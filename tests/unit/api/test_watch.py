"""The live chart's files: complete, and of this door only."""

import re
from importlib.resources import files

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from api import watch

PAGE, STYLE, SCRIPT = (
    files("api.watch").joinpath(name).read_text(encoding="utf-8")
    for name in ("chart.html", "chart.css", "chart.js")
)


def test_every_element_that_the_script_looks_for_is_in_the_page() -> None:
    wanted = set(re.findall(r'\$\("(\w+)"\)', SCRIPT))
    assert wanted
    assert wanted <= set(re.findall(r'id="(\w+)"', PAGE))


def test_nothing_is_loaded_from_another_place() -> None:
    for text in (PAGE, STYLE, SCRIPT):
        places = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
        assert places == set()
    assert set(re.findall(r'(?:src|href)="([^"]+)"', PAGE)) == {"/", "/watch/chart.css", "/watch/chart.js"}


def test_a_bucket_s_texts_never_become_markup() -> None:
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in SCRIPT


@pytest.mark.parametrize(
    ("path", "media_type", "text"),
    [
        ("/watch", "text/html", PAGE),
        ("/watch/chart.css", "text/css", STYLE),
        ("/watch/chart.js", "text/javascript", SCRIPT),
    ],
)
async def test_each_file_is_served_under_a_strict_policy(path: str, media_type: str, text: str) -> None:
    app = web.Application()
    watch.add_watch_routes(app)
    async with (
        TestServer(app) as server,
        ClientSession() as session,
        session.get(server.make_url(path)) as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == media_type
        assert await answer.text() == text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
