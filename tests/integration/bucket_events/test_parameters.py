"""What the calls refuse, and how."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.bucket_events.calls import ask
from tests.support.api_door import Door
from tests.support.bounds import AT_AND_ABOVE

BAD: list[tuple[str, Any, str]] = [
    ("events", {}, "event_name"),
    ("events", {"event_name": ""}, "event_name"),
    ("events", {"event_name": 5}, "event_name"),
    ("events", {"event_name": "a\u0000"}, "event_name"),
    ("events", {"event_name": "a", "limit": 0}, "limit"),
    ("events", {"event_name": "a", "limit": 10_001}, "limit"),
    ("events", {"event_name": "a", "limit": "many"}, "limit"),
    ("events", {"event_name": "a", "offset": -1}, "offset"),
    ("events", {"event_name": "a", "offset": 10**30}, "body|offset"),
    ("events", {"event_name": "a", "app_name": {}}, "app_name"),
    ("events", {"event_name": "a", "start": "yesterday"}, "start"),
    ("events", {"event_name": "a", "start": 2000, "end": 1000}, "start"),
    ("events", [], "object"),
    ("events", b"{", "JSON"),
    ("events", b"\xff", "JSON"),
    ("events", b"[" * 500 + b"]" * 500, "levels"),
    ("events/stats", {}, "event_name"),
    ("events/stats", {"event_name": "a", "days": 0}, "days"),
    ("events/stats", {"event_name": "a", "days": "two"}, "days"),
    ("events/stats", {"event_name": "a", "interval": "fortnight"}, "interval"),
    ("events/stats", {"event_name": "a", "interval": 5}, "interval"),
    ("events/stats", {"event_name": "a", "days": 3, "interval": "second"}, "points"),
    ("events/stats", {"event_name": "a", "days": 1e9, "interval": "minute"}, "points"),
]


@pytest.mark.parametrize(("path", "body", "named"), BAD)
async def test_bad_parameters_are_400_and_name_what_is_wrong(
    api: Door, path: str, body: Any, named: str
) -> None:
    data = body if isinstance(body, bytes) else dumps(body)
    answer = await ask(api, "POST", path, data)
    assert answer.status == 400
    assert list(answer.body) == ["msg"]
    assert any(word in answer.body["msg"] for word in named.split("|"))


async def test_bad_parameters_of_the_names_are_400(api: Door) -> None:
    for body, named in (({"app_name": {}}, "app_name"), ({"server_name": 5}, "server_name"), ([], "object")):
        for path in ("eventsKeysByApp", "events/eventsKeysByApp"):
            answer = await ask(api, "GET", path, body)
            assert (answer.status, list(answer.body)) == (400, ["msg"])
            assert named in answer.body["msg"]


def dumps(body: Any) -> bytes:
    # orjson refuses the numbers that this is about.
    return json.dumps(body).encode()


@AT_AND_ABOVE
async def test_a_body_beyond_its_bound_is_413(api: Door, beyond: int) -> None:
    body = b'{"event_name": "boot"}'
    answer = await ask(api, "POST", "events", body + b" " * (1024 * 1024 + beyond - len(body)))
    if beyond:
        assert (answer.status, list(answer.body)) == (413, ["msg"])
    else:
        assert (answer.status, answer.body) == (200, [])


async def test_an_unknown_call_is_404_and_a_wrong_method_405_in_the_same_form(api: Door) -> None:
    assert (await ask(api, "POST", "nothing")).body == {"msg": "Not Found"}
    answer = await ask(api, "PUT", "events")
    assert (answer.status, answer.body) == (405, {"msg": "Method Not Allowed"})
