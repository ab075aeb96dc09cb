"""Registering devices and retiring nodes through real sockets: every status, and what each leaves behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from query.devices import MAX_NAMES
from schema.receipts import encode_receipt
from tests.support.api_door import UNAUTHORIZED, Answer, Door, api_door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.stored import Occurrence, Stored

UNKNOWN = "f" * 24


async def call(
    api: Door, method: str, path: str, body: Any = None, *, who: str = "owner", bucket: str | None = "first"
) -> Answer:
    named = {} if bucket is None else {"X-Weir-Bucket": api.buckets.get(bucket, bucket)}
    return await api.ask(method, f"/v1/{path}", body, who=who, **named)


def is_problem(answer: Answer, status: int) -> bool:
    return (answer.status, answer.body["status"], answer.headers["Content-Type"]) == (
        status,
        status,
        "application/problem+json",
    )


def sent(*moments: int, device: str = "d1", name: str = "boot") -> list[Occurrence]:
    return [Occurrence(at, f"{device} {name} {at}", name, device=device) for at in moments]


async def test_a_device_is_registered_replaced_and_shown(api: Door) -> None:
    made = await call(
        api, "PUT", "devices/d1", {"name": "Door", "attributes": {"floor": 3, "ä": [None, 1.5]}}
    )
    assert made.status == 201
    assert list(made.body) == ["id", "name", "attributes", "registered_at", "updated_at"]
    assert made.body["registered_at"] == made.body["updated_at"]
    shown = await call(api, "GET", "devices/d1", who="first read key", bucket=None)
    assert (shown.status, shown.body) == (200, {**made.body, "events": {}})
    again = await call(api, "PUT", "devices/d1", {"name": "Gate"})
    assert (again.status, again.body["name"], again.body["attributes"]) == (200, "Gate", {})
    assert again.body["registered_at"] == made.body["registered_at"]
    assert again.body["updated_at"] > made.body["updated_at"]
    assert (await call(api, "GET", "devices/d1")).body == {**again.body, "events": {}}
    assert (await call(api, "PUT", "devices/d2")).status == 201


async def test_a_device_is_known_once_it_has_sent_an_event(api: Door, stored: Stored) -> None:
    assert is_problem(await call(api, "GET", "devices/d1"), 404)
    now = await stored.writer.fetchval("SELECT floor(extract(epoch FROM now()) * 1000000)::bigint")
    await stored.write(api.buckets["first"], sent(now - 3 * 86_400_000_000, now - 5, now))
    await stored.maintain()
    await stored.write(api.buckets["first"], sent(now - 3, name="crash"))
    shown = await call(api, "GET", "devices/d1")
    assert shown.body == {
        "id": "d1",
        "name": "",
        "attributes": {},
        "registered_at": None,
        "updated_at": None,
        "events": {"boot": 3, "crash": 1},
    }
    assert is_problem(await call(api, "GET", "devices/d1", bucket="second"), 404)


@AT_AND_ABOVE
async def test_names_are_counted_up_to_a_bound_and_the_answer_says_so(
    api: Door, stored: Stored, beyond: int
) -> None:
    now = await stored.writer.fetchval("SELECT floor(extract(epoch FROM now()) * 1000000)::bigint")
    names = [f"n{number:04}" for number in range(MAX_NAMES + beyond)]
    await stored.write(api.buckets["first"], [one for name in names for one in sent(now, name=name)])
    shown = await call(api, "GET", "devices/d1")
    assert list(shown.body["events"]) == names[:MAX_NAMES]
    assert shown.headers.get("X-Weir-Incomplete") == ("names" if beyond else None)


async def test_pages_of_the_devices_that_a_bucket_knows(api: Door, stored: Stored) -> None:
    now = await stored.writer.fetchval("SELECT floor(extract(epoch FROM now()) * 1000000)::bigint")
    for number in range(0, 30, 3):
        await call(api, "PUT", f"devices/d{number:02}", {"name": f"n{number}"})
    await stored.write(
        api.buckets["first"],
        [e for n in range(0, 30, 2) for e in sent(now - 3 * 86_400_000_000 - n, device=f"d{n:02}")],
    )
    await stored.maintain()
    await stored.write(
        api.buckets["first"], [e for n in range(0, 30, 5) for e in sent(now, device=f"d{n:02}")]
    )
    await stored.write(api.buckets["first"], [Occurrence(now, "none of a device")])
    await stored.write(api.buckets["second"], sent(now, device="d01"))
    await call(api, "PUT", "devices/d07", {"name": "theirs"}, bucket="second")
    await call(api, "PUT", "devices/d02", {"name": "not ours"}, bucket="second")
    expected = [f"d{n:02}" for n in range(30) if n % 2 == 0 or n % 3 == 0 or n % 5 == 0]
    whole = (await call(api, "GET", "devices")).body
    assert [device["id"] for device in whole["devices"]] == expected
    assert whole["next"] is None
    assert {device["id"]: device["name"] for device in whole["devices"]} == {
        device: f"n{int(device[1:])}" if int(device[1:]) % 3 == 0 else "" for device in expected
    }
    found, after = [], ""
    while True:
        page = (await call(api, "GET", f"devices?limit=7&after={after}")).body
        found += [device["id"] for device in page["devices"]]
        if page["next"] is None:
            break
        assert len(page["devices"]) == 7
        after = page["next"]
    assert found == expected


async def test_no_devices_and_the_last_page_exactly_full(api: Door) -> None:
    assert (await call(api, "GET", "devices")).body == {"devices": [], "next": None}
    for device in ("a", "b"):
        await call(api, "PUT", f"devices/{device}")
    assert (await call(api, "GET", "devices?limit=2")).body["next"] is None
    assert (await call(api, "GET", "devices?limit=2&after=b")).body == {"devices": [], "next": None}


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"{", b"null", {"name": 1}, {"name": None}, {"name": "x" * 201}, {"name": "\x00"},
        {"label": "x"}, {"attributes": []}, {"attributes": None}, {"attributes": "x"},
        {"attributes": {"x": "\x00"}}, {"attributes": {"\x00": 1}},
    ],
)  # fmt: skip
async def test_what_cannot_be_registered(api: Door, body: Any) -> None:
    assert is_problem(await call(api, "PUT", "devices/d1", body), 400)
    assert is_problem(await call(api, "GET", "devices/d1"), 404)


async def test_bounds_on_what_is_registered(api: Door) -> None:
    assert is_problem(await call(api, "PUT", f"devices/{'x' * 201}", {}), 400)
    assert is_problem(await call(api, "PUT", "devices/%00", {}), 400)
    assert (await call(api, "PUT", f"devices/{'x' * 200}", {})).status == 201
    for query in ("limit=0", "limit=1001", "limit=x", "after=%00", f"after={'x' * 201}"):
        assert is_problem(await call(api, "GET", f"devices?{query}"), 400)
    for path in (f"devices/{'x' * 201}", "devices/%00"):
        assert is_problem(await call(api, "GET", path), 404)


@AT_AND_ABOVE
async def test_attributes_have_their_bytes(api: Door, beyond: int) -> None:
    attributes = {"x": "y" * (65_536 + beyond - len('{"x":""}'))}
    answer = await call(api, "PUT", "devices/d1", {"attributes": attributes})
    assert is_problem(answer, 413) if beyond else answer.status == 201


async def test_who_may_register_and_read(api: Door) -> None:
    await call(api, "PUT", "devices/d1", {})
    ours = {"owner", "admin", "user", "member", "root"}
    writers = {"owner", "admin", "root"} | {
        f"{who} {scope} key" for who in ("first", "owner's", "root's") for scope in ("ingest", "admin")
    }
    readers = ours | {
        f"{who} {scope} key"
        for who in ("first", "owner's", "user's", "root's")
        for scope in ("read", "admin")
    }
    for who in api.secrets:
        refused = 401 if who in UNAUTHORIZED else 403
        put = await call(api, "PUT", "devices/d1", {}, who=who)
        assert put.status == 200 if who in writers else is_problem(put, refused), who
        for path in ("devices", "devices/d1"):
            got = await call(api, "GET", path, who=who)
            assert got.status == 200 if who in readers else is_problem(got, refused), who


async def test_the_bucket_is_the_keys_or_the_one_that_is_named(api: Door) -> None:
    assert (await call(api, "PUT", "devices/d1", who="first ingest key", bucket=None)).status == 201
    assert (await call(api, "GET", "devices/d1", bucket="first")).status == 200
    for method, path in (
        ("PUT", "devices/d1"),
        ("GET", "devices"),
        ("GET", "devices/d1"),
        ("DELETE", "nodes/a"),
    ):
        for who in ("owner", "owner's admin key"):
            assert is_problem(await call(api, method, path, who=who, bucket=None), 400)
            assert is_problem(await call(api, method, path, who=who, bucket="theirs"), 403)
            for unknown in (UNKNOWN, "nonsense"):
                assert is_problem(await call(api, method, path, who=who, bucket=unknown), 404)
        assert is_problem(await call(api, method, path, who="nobody", bucket=None), 401)


def reported(dsn: str, bucket_id: str, host: str, ip: str, *moments: datetime) -> None:
    with psycopg.connect(dsn) as connection:
        for at in moments:
            connection.execute(
                "INSERT INTO node_reports (bucket_id, observed_at, host, ip, received_at, version, status,"
                " interval_seconds) VALUES (%s, %s, %s, %s, now(), '', 'ONLINE', 3600)",
                [bucket_id, at, host, ip],
            )


async def listed(api: Door, day: datetime) -> list[tuple[str, str]]:
    answer = await api.ask("POST", f"/bucket/{api.buckets['first']}/stats", {"day": day.isoformat()})
    return [(node["host"], node["ip"]) for node in answer.body["nodeStats"]]


async def test_a_retired_node_leaves_the_statistics_until_it_reports_again(
    api: Door, database_dsn: str
) -> None:
    now = datetime.now(UTC)
    yesterday = now - timedelta(days=1)
    first = api.buckets["first"]
    for host, ip in (("a", "1"), ("a", "2"), ("b/c", "1")):
        reported(database_dsn, first, host, ip, yesterday, now - timedelta(seconds=9))
    reported(database_dsn, api.buckets["second"], "a", "1", now)
    everyone = [("a", "1"), ("a", "2"), ("b/c", "1")]
    assert await listed(api, now) == everyone
    gone = await call(api, "DELETE", "nodes/a?ip=2")
    assert gone.status == 200
    assert [(node["host"], node["ip"]) for node in gone.body["retired"]] == [("a", "2")]
    assert await listed(api, now) == [("a", "1"), ("b/c", "1")]
    assert await listed(api, yesterday) == everyone
    assert (await call(api, "DELETE", "nodes/a?ip=2")).body == gone.body
    both = (await call(api, "DELETE", "nodes/a")).body["retired"]
    assert [node["ip"] for node in both] == ["1", "2"]
    assert both[1] == gone.body["retired"][0]
    assert (await call(api, "DELETE", f"nodes/{quote('b/c', safe='')}")).status == 200
    assert await listed(api, now) == []
    reported(database_dsn, first, "a", "2", datetime.now(UTC))
    assert await listed(api, now) == [("a", "2")]


async def test_a_node_whose_clock_is_ahead_is_retired_after_all_that_it_sent(
    api: Door, database_dsn: str
) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=30)
    reported(database_dsn, api.buckets["first"], "a", "", ahead - timedelta(minutes=5), ahead)
    (node,) = (await call(api, "DELETE", "nodes/a?ip=")).body["retired"]
    assert datetime.fromisoformat(node["retired_at"]) == ahead


async def test_who_may_retire_a_node_and_which_are_unknown(api: Door, database_dsn: str) -> None:
    reported(database_dsn, api.buckets["first"], "a", "1", datetime.now(UTC))
    reported(database_dsn, api.buckets["second"], "second", "1", datetime.now(UTC))
    may = {"owner", "admin", "root", "first admin key", "owner's admin key", "root's admin key"}
    for who in api.secrets:
        answer = await call(api, "DELETE", "nodes/a", who=who)
        refused = 401 if who in UNAUTHORIZED else 403
        assert answer.status == 200 if who in may else is_problem(answer, refused), who
    for path in ("nodes/unknown", "nodes/second", "nodes/a?ip=2", "nodes/%00", "nodes/a?ip=%00"):
        assert is_problem(await call(api, "DELETE", path), 404), path


async def test_a_receipt_is_waited_for(api: Door) -> None:
    receipt = {"X-Weir-Receipt": encode_receipt({0: (1, 10)})}
    for path in ("/v1/devices", "/v1/devices/d1"):
        answer = await api.ask("GET", path, who="first read key", **receipt)
        assert is_problem(answer, 503)
        assert answer.headers["Retry-After"] == "1"


async def test_without_a_database_every_call_is_503_in_its_own_form(database_dsn: str) -> None:
    async with api_door(database_dsn, database_dsn="postgresql://nobody@127.0.0.1:9/weir") as api:
        for method, path, form in (
            ("GET", "/devices/d1/events/boot", ["responseStatus", "message"]),
            ("GET", "/laas/api/v1/devices/d1/events/boot", ["responseStatus", "message"]),
            ("POST", f"/bucket/{api.buckets['first']}/stats", ["success", "message"]),
            ("GET", "/v1/devices", ["type", "title", "status", "detail", "request_id"]),
            ("PUT", "/v1/devices/d1", ["type", "title", "status", "detail", "request_id"]),
            ("DELETE", "/v1/nodes/a", ["type", "title", "status", "detail", "request_id"]),
        ):
            answer = await api.ask(method, path, who="first admin key")
            assert (answer.status, list(answer.body)) == (503, form), path
            assert answer.headers["Retry-After"] == "2"
