"""The four calls of a bucket's events through real sockets, on the real database and the real log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from api.app import build_app, clients
from api.http.serving import Listening, listening
from api.tenancy.administration import (
    Connection,
    add_workspace_member,
    administration,
    create_access_token,
    create_api_key,
    create_bucket,
    create_refresh_token,
    create_user,
    create_workspace,
    revoke_api_key,
)
from query.interval import DAY, SECOND
from query.plan import HOUR
from schema.connections import new_producer
from schema.identities import Scope, new_secret
from schema.migrations.migrate import newest_revision
from schema.receipts import encode_receipt
from schema.records import encode_record
from schema.settings import ApiSettings, KafkaSettings
from schema.topics import ensure_topics
from tests.support.bounds import AT_AND_ABOVE
from tests.support.stored import Occurrence, Stored, segments, stored_in
from tests.support.topics import TopicNames

DEAD_KAFKA = "127.0.0.1:9"
UNKNOWN = "f" * 24
NOON = 1_790_000_000 * SECOND // DAY * DAY + 12 * HOUR


@dataclass(slots=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(slots=True)
class Door:
    """The query API on a socket, its bucket, and secrets by whose they are."""

    session: aiohttp.ClientSession
    url: str
    bucket: str
    other_bucket: str
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str = "owner",
        bucket: str | None = None,
        **headers: str,
    ) -> Answer:
        data = body if isinstance(body, bytes) else orjson.dumps({} if body is None else body)
        async with self.session.request(
            method,
            f"{self.url}/api/bucket/{bucket or self.bucket}/data/{path}",
            data=data,
            headers={"Content-Type": "application/json", **self.secrets[who], **headers},
        ) as response:
            raw = await response.read()
            return Answer(response.status, orjson.loads(raw), response.headers)


@asynccontextmanager
async def door(dsn: str, kafka: KafkaSettings | None = None, **options: Any) -> AsyncIterator[Door]:
    settings = ApiSettings(
        **{
            "database_dsn": dsn,
            "kafka_bootstrap": kafka.kafka_bootstrap if kafka else DEAD_KAFKA,
            "kafka_events_topic": kafka.kafka_events_topic if kafka else "weir.events",
            "kafka_request_seconds": 3,
            "receipt_seconds": 0.3,
            **options,
        }
    )
    where = Listening("127.0.0.1", 0, 5, 5)
    async with (
        clients(settings) as parts,
        listening(build_app(settings, parts, CollectorRegistry()), where) as port,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):
        yield Door(session, f"http://127.0.0.1:{port}", "", "")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def people(dsn: str, made: Door) -> None:
    """A bucket, another workspace's bucket, and everybody who may and may not."""
    with administration(dsn) as connection:
        workspace, elsewhere = create_workspace(connection, "ours"), create_workspace(connection, "theirs")
        users = {
            who: create_user(connection, f"{who}@example.com")
            for who in ("owner", "admin", "user", "member", "stranger", "root")
        }
        made.bucket = create_bucket(connection, workspace, "ours", owner_id=users["owner"])
        made.other_bucket = create_bucket(connection, elsewhere, "theirs", owner_id=users["stranger"])
        for who in ("admin", "user"):
            connection.execute(
                "INSERT INTO bucket_members (bucket_id, user_id, role) VALUES (%s, %s, %s)",
                (made.bucket, users[who], who),
            )
        add_workspace_member(connection, workspace, users["member"], "member")
        connection.execute("UPDATE users SET superuser = true WHERE user_id = %s", (users["root"],))
        for who, user in users.items():
            made.secrets[who] = bearer(token(connection, user))
        for scope in Scope:
            key = create_api_key(connection, made.bucket, scope, name="ours")[1]
            made.secrets[f"{scope} key"] = {"X-Api-Key": key}
            key = create_api_key(connection, made.other_bucket, scope, name="theirs")[1]
            made.secrets[f"their {scope} key"] = {"X-Api-Key": key}
        key_id, key = create_api_key(connection, made.bucket, Scope.ADMIN, name="revoked")
        revoke_api_key(connection, key_id)
        made.secrets["revoked key"] = {"X-Api-Key": key}
        made.secrets["nobody"] = {}
        made.secrets["null"] = bearer("null")
        made.secrets["garbage"] = bearer("garbage")
        made.secrets["forged"] = bearer(new_secret("access"))
        made.secrets["forged key"] = {"X-Api-Key": new_secret("admin")}
        made.secrets["expired"] = bearer(token(connection, users["owner"], timedelta(seconds=-1)))
        refresh = create_refresh_token(connection, users["owner"])
        made.secrets["ended"] = bearer(token(connection, users["owner"], refresh_token=refresh))
        connection.execute("UPDATE refresh_tokens SET revoked_at = now()")
        made.secrets["key as token"] = bearer(made.secrets["admin key"]["X-Api-Key"])
        made.secrets["token as key"] = {"X-Api-Key": made.secrets["owner"]["Authorization"].split()[1]}


def token(
    connection: Connection,
    user: str,
    lifetime: timedelta = timedelta(hours=1),
    refresh_token: str | None = None,
) -> str:
    return create_access_token(connection, user, lifetime=lifetime, refresh_token=refresh_token)


@pytest.fixture
async def stored(database_dsn: str) -> AsyncIterator[Stored]:
    async with stored_in(database_dsn) as made:
        yield made


@pytest.fixture
async def api(database_dsn: str) -> AsyncIterator[Door]:
    async with door(database_dsn) as made:
        people(database_dsn, made)
        yield made


CALLS: dict[str, tuple[str, str, Any]] = {
    "list": ("POST", "events", {"event_name": "boot"}),
    "histogram": ("POST", "events/stats", {"event_name": "boot"}),
    "names": ("GET", "eventsKeysByApp", {}),
    "alias": ("GET", "events/eventsKeysByApp", {}),
    "delete": ("DELETE", "events/delete_all", {}),
}
UNAUTHORIZED = [
    "nobody", "null", "garbage", "forged", "forged key", "revoked key", "expired", "ended", "key as token",
    "token as key",
]  # fmt: skip
READERS = ["owner", "admin", "user", "member", "root", "read key", "admin key"]
DELETERS = ["owner", "admin", "root", "admin key"]
FORBIDDEN = ["stranger", "ingest key", "their read key", "their admin key", "their ingest key"]


async def test_who_may_call_what(api: Door) -> None:
    for call, (method, path, body) in CALLS.items():
        allowed = DELETERS if call == "delete" else READERS
        for who in api.secrets:
            answer = await api.ask(method, path, body, who=who)
            if who in UNAUTHORIZED:
                assert answer.status == 401, (call, who)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            elif who not in allowed:
                assert answer.status == 403, (call, who)
            else:
                # A deletion needs Kafka, which is away here: it is refused further on.
                assert answer.status == (500 if call == "delete" else 200), (call, who)
            if answer.status != 200:
                assert list(answer.body) == ["msg"]
                assert answer.body["msg"]
    assert set(UNAUTHORIZED) | set(READERS) | set(FORBIDDEN) == set(api.secrets)


@pytest.mark.parametrize("bucket", [UNKNOWN, "nonsense", "F" * 24, "%00", "' OR 1=1 --"])
async def test_an_unknown_bucket_is_404_to_everybody_who_is_somebody(api: Door, bucket: str) -> None:
    for call, (method, path, body) in CALLS.items():
        for who in ("owner", "root", "read key"):
            answer = await api.ask(method, path, body, who=who, bucket=bucket)
            assert (answer.status, list(answer.body)) == (404, ["msg"]), call
        assert (await api.ask(method, path, body, who="nobody", bucket=bucket)).status == 401


async def test_a_deleted_bucket_is_gone(api: Door, database_dsn: str) -> None:
    with psycopg.connect(database_dsn) as connection:
        connection.execute("UPDATE buckets SET deleted_at = now() WHERE bucket_id = %s", [api.bucket])
    for method, path, body in CALLS.values():
        assert (await api.ask(method, path, body, who="owner")).status == 404
        assert (await api.ask(method, path, body, who="admin key")).status == 404


async def test_events_come_newest_first_with_ties_by_id(api: Door, stored: Stored) -> None:
    events = [
        Occurrence(
            NOON + second * SECOND + 1,
            f"{second}-{tie}",
            "boot",
            "shop",
            "s1",
            "d1",
            b'{"n": 1.50, "b": [1]}',
        )
        for second in range(5)
        for tie in "bca"
    ]
    await stored.write(api.bucket, events)
    await stored.write(api.other_bucket, [Occurrence(NOON, "theirs", "boot")])
    answer = await api.ask("POST", "events", {"event_name": "boot"})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert [event["_id"] for event in answer.body] == [f"{n}-{tie}" for n in (4, 3, 2, 1, 0) for tie in "abc"]
    assert answer.body[0] == {
        "_id": "4-a",
        "at": (NOON + 4 * SECOND) // 1000,
        "event_name": "boot",
        "app_name": "shop",
        "server_name": "s1",
        "device_name": "d1",
        "stream": "events",
        "data": {"n": 1.5, "b": [1]},
    }


async def test_limit_offset_and_filters_of_the_list(api: Door, stored: Stored) -> None:
    await stored.write(
        api.bucket,
        [
            Occurrence(NOON + n * SECOND, str(n), "boot", ("", "shop")[n % 2], ("s0", "s1", "s2")[n % 3])
            for n in range(150)
        ],
    )

    async def found(**asked: Any) -> list[int]:
        answer = await api.ask("POST", "events", {"event_name": "boot", **asked})
        assert answer.status == 200, answer.body
        return [int(event["_id"]) for event in answer.body]

    newest_first = list(range(149, -1, -1))
    assert await found() == newest_first[:100]
    assert await found(limit="10", offset="5") == newest_first[5:15]
    assert await found(limit=10_000) == newest_first
    assert await found(offset=150) == []
    assert await found(app_name="shop", limit=200) == [n for n in newest_first if n % 2]
    assert await found(app_name="", limit=200) == [n for n in newest_first if n % 2 == 0]
    assert await found(app_name=None, server_name="s2", limit=200) == [n for n in newest_first if n % 3 == 2]
    assert await found(app_name="nobody") == []
    start, end = NOON + 10 * SECOND, NOON + 20 * SECOND
    assert await found(start=start // 1000, end=end // 1000) == list(range(19, 9, -1))
    assert await found(start=str(start // 1000), limit=1, offset=139) == [10]
    assert await found(start="2026-09-21T12:00:10Z", end="2026-09-21T14:00:12+02:00") == [11, 10]


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
    answer = await api.ask("POST", path, data)
    assert answer.status == 400
    assert list(answer.body) == ["msg"]
    assert any(word in answer.body["msg"] for word in named.split("|"))


async def test_bad_parameters_of_the_names_are_400(api: Door) -> None:
    for body, named in (({"app_name": {}}, "app_name"), ({"server_name": 5}, "server_name"), ([], "object")):
        for path in ("eventsKeysByApp", "events/eventsKeysByApp"):
            answer = await api.ask("GET", path, body)
            assert (answer.status, list(answer.body)) == (400, ["msg"])
            assert named in answer.body["msg"]


def dumps(body: Any) -> bytes:
    # orjson refuses the numbers that this is about.
    return json.dumps(body).encode()


@AT_AND_ABOVE
async def test_a_body_beyond_its_bound_is_413(api: Door, beyond: int) -> None:
    body = b'{"event_name": "boot"}'
    answer = await api.ask("POST", "events", body + b" " * (1024 * 1024 + beyond - len(body)))
    if beyond:
        assert (answer.status, list(answer.body)) == (413, ["msg"])
    else:
        assert (answer.status, answer.body) == (200, [])


async def test_an_unknown_call_is_404_and_a_wrong_method_405_in_the_same_form(api: Door) -> None:
    assert (await api.ask("POST", "nothing")).body == {"msg": "Not Found"}
    answer = await api.ask("PUT", "events")
    assert (answer.status, answer.body) == (405, {"msg": "Method Not Allowed"})


async def test_the_histogram_is_ascending_and_zero_filled(api: Door, stored: Stored) -> None:
    minutes = [0, 0, 3, 7, 62]
    await stored.write(
        api.bucket,
        [
            Occurrence(NOON + m * 60 * SECOND + n, str(n), "boot", ("", "shop")[m == 3])
            for n, m in enumerate(minutes)
        ],
    )

    async def points(**asked: Any) -> list[list[int]]:
        window = {"start": (NOON - DAY) // 1000, "end": (NOON + DAY) // 1000}
        answer = await api.ask("POST", "events/stats", {"event_name": "boot", **window, **asked})
        assert answer.status == 200, answer.body
        return [[(x - NOON // 1000) // 60_000, y] for x, y in answer.body]

    assert await points() == [[m, minutes.count(m)] for m in range(63)]
    assert await points(interval="5m") == [[5 * n, {0: 3, 1: 1, 12: 1}.get(n, 0)] for n in range(13)]
    assert await points(interval="hour") == [[0, 4], [60, 1]]
    assert await points(interval="day") == [[-720, 5]]
    assert await points(interval="hour", app_name="shop") == [[0, 1]]
    assert await points(interval="hour", server_name="nowhere") == []
    assert await points(start=NOON // 1000 + 1, end=NOON // 1000 + 7 * 60_000, interval="hour") == [[0, 1]]
    answer = await api.ask(
        "POST", "events/stats", {"event_name": "boot", "days": "10000", "interval": "month"}
    )
    assert [y for _, y in answer.body] == [5]
    assert orjson.dumps(answer.body[0][0]) == b"1788220800000"


async def test_days_count_back_from_now(api: Door, stored: Stored) -> None:
    now = int(await stored.writer.fetchval("SELECT extract(epoch FROM now())")) * SECOND
    await stored.write(
        api.bucket, [Occurrence(now - hours * HOUR, str(hours), "boot") for hours in (1, 30, 47, 49, 73)]
    )

    async def counted(**asked: Any) -> int:
        body = {"event_name": "boot", "interval": "hour", **asked}
        return sum(y for _, y in (await api.ask("POST", "events/stats", body)).body)

    assert await counted() == 3
    assert await counted(days="1") == 1
    assert await counted(days=4) == 5
    assert await counted(days=1, end=(now - 29 * HOUR) // 1000) == 3
    assert await counted(days=1, start=(now - 60 * HOUR) // 1000) == 4


async def test_names_and_counts_by_app(api: Door, stored: Stored) -> None:
    labels = [("", "boot"), ("shop", "sale"), ("shop", "boot"), ("shop", "boot"), ("till", "größe")]
    await stored.write(
        api.bucket,
        [Occurrence(NOON + n * DAY, str(n), name, app, "s1") for n, (app, name) in enumerate(labels)],
    )
    await stored.write(api.other_bucket, [Occurrence(NOON, "1", "secret")])
    expected = [
        {"app_name": "", "events": ["boot"], "counts": {"boot": 1}},
        {"app_name": "shop", "events": ["boot", "sale"], "counts": {"boot": 2, "sale": 1}},
        {"app_name": "till", "events": ["größe"], "counts": {"größe": 1}},
    ]
    for path in ("eventsKeysByApp", "events/eventsKeysByApp"):
        assert (await api.ask("GET", path)).body == expected
        assert (await api.ask("GET", path, b"")).body == expected
    assert (await api.ask("GET", "eventsKeysByApp?app_name=shop")).body == expected[1:2]
    assert (await api.ask("GET", "eventsKeysByApp", {"app_name": "till"})).body == expected[2:]
    assert (await api.ask("GET", "eventsKeysByApp?server_name=s2")).body == []


async def test_long_answers_are_sent_while_they_are_read(api: Door, stored: Stored) -> None:
    data = orjson.dumps({"text": "x" * 20_000})
    for part in range(10):
        await stored.write(
            api.bucket, [Occurrence(NOON + part * 60 + n, f"{part}-{n}", data=data) for n in range(60)]
        )
    answer = await api.ask("POST", "events", {"event_name": "boot", "limit": 10_000})
    assert answer.status == 200
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["X-Request-Id"]
    assert [event["at"] for event in answer.body] == [NOON // 1000] * 600
    assert {event["_id"] for event in answer.body} == {f"{p}-{n}" for p in range(10) for n in range(60)}


async def test_a_receipt_waits_until_the_writer_has_stored_it(api: Door, stored: Stored) -> None:
    receipt = encode_receipt({0: (1, 0)})
    for path in ("events", "events/stats"):
        answer = await api.ask("POST", path, {"event_name": "boot"}, **{"X-Weir-Receipt": receipt})
        assert (answer.status, list(answer.body)) == (503, ["msg"])
        assert int(answer.headers["Retry-After"]) >= 1

    async def later() -> None:
        await asyncio.sleep(0.1)
        await stored.write(api.bucket, [Occurrence(NOON, "mine")])

    writing = asyncio.ensure_future(later())
    answer = await api.ask("POST", "events", {"event_name": "boot"}, **{"X-Weir-Receipt": receipt})
    await writing
    assert [event["_id"] for event in answer.body] == ["mine"]
    answer = await api.ask("GET", "eventsKeysByApp", **{"X-Weir-Receipt": receipt})
    assert answer.body[0]["counts"] == {"boot": 1}


async def test_a_receipt_of_another_log_or_of_nobody_is_400(api: Door, stored: Stored) -> None:
    await stored.write(api.bucket, [Occurrence(NOON, "mine")])
    await stored.writer.execute("UPDATE partition_offsets SET epoch = 2")
    for receipt, named in ((encode_receipt({0: (1, 0)}), "earlier log"), ("nonsense!", "receipt")):
        answer = await api.ask("POST", "events", {"event_name": "boot"}, **{"X-Weir-Receipt": receipt})
        assert answer.status == 400
        assert named in answer.body["msg"]


async def test_deletion_answers_what_it_deleted_and_nothing_comes_back(
    database_dsn: str, kafka_bootstrap: str, topics: TopicNames
) -> None:
    kafka = topics.settings(kafka_bootstrap)
    await ensure_topics(kafka)
    async with door(database_dsn, kafka) as api, stored_in(database_dsn, topic=topics.events) as stored:
        people(database_dsn, api)
        await stored.write(api.bucket, [Occurrence(NOON + n, str(n), "boot", "shop") for n in range(3)])
        await stored.write(api.other_bucket, [Occurrence(NOON, "theirs")])
        # Accepted before the call, and not yet stored: it lies in the log.
        on_its_way = [Occurrence(NOON + 10, "on its way", "boot", "shop")]
        await publish(kafka, 1, api.bucket, on_its_way)

        answer = await api.ask("DELETE", "events/delete_all", who="admin")
        assert answer.status == 200
        assert answer.body == [{"app_name": "shop", "events": ["boot"], "counts": {"boot": 3}}]
        with psycopg.connect(database_dsn) as connection:
            fences = connection.execute(
                "SELECT partition, epoch, fence_offset FROM fences WHERE bucket_id = %s ORDER BY 1",
                [api.bucket],
            ).fetchall()
            retired = connection.execute(
                "SELECT retired_at IS NOT NULL FROM bucket_keys WHERE bucket_id = %s ORDER BY bucket_key",
                [api.bucket],
            ).fetchall()
        assert fences == [(0, 1, 0), (1, 1, 1), (2, 1, 0), (3, 1, 0)]
        assert retired == [(True,), (False,)]

        fenced = await stored.write(api.bucket, on_its_way, partition=1)
        assert (fenced.fenced, fenced.stored) == (1, 0)
        assert (await api.ask("GET", "eventsKeysByApp")).body == []
        assert (await api.ask("POST", "events", {"event_name": "boot"})).body == []
        days = {"event_name": "boot", "days": 10_000, "interval": "day"}
        assert (await api.ask("POST", "events/stats", days)).body == []
        assert (await api.ask("GET", "eventsKeysByApp", who="stranger", bucket=api.other_bucket)).body != []

        # Sent again after the call, it is a new event.
        sent_again = await stored.write(api.bucket, on_its_way, partition=1)
        assert sent_again.stored == 1
        assert (await api.ask("DELETE", "events/delete_all")).body == [
            {"app_name": "shop", "events": ["boot"], "counts": {"boot": 1}}
        ]
        assert (await api.ask("DELETE", "events/delete_all")).body == []


async def publish(kafka: KafkaSettings, partition: int, bucket: str, events: list[Occurrence]) -> None:
    producer = new_producer(kafka)
    await producer.start()
    try:
        value = encode_record(bytes(16), segments(bucket, events))
        await producer.send_and_wait(kafka.kafka_events_topic, value, partition=partition)
    finally:
        await producer.stop()


async def test_deletions_at_the_same_moment_all_end_and_count_each_event_once(
    database_dsn: str, kafka_bootstrap: str, topics: TopicNames
) -> None:
    kafka = topics.settings(kafka_bootstrap)
    await ensure_topics(kafka)
    async with door(database_dsn, kafka) as api, stored_in(database_dsn, topic=topics.events) as stored:
        people(database_dsn, api)
        await stored.write(api.bucket, [Occurrence(NOON + n, str(n)) for n in range(50)])
        answers = await asyncio.gather(*(api.ask("DELETE", "events/delete_all") for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        assert sum(answer.body[0]["counts"]["boot"] for answer in answers if answer.body) == 50


async def test_a_deletion_takes_no_filter_and_needs_kafka(api: Door, stored: Stored) -> None:
    await stored.write(api.bucket, [Occurrence(NOON, "kept", "boot", "shop")])
    answer = await api.ask("DELETE", "events/delete_all", {"app_name": "shop"})
    assert answer.status == 400
    answer = await api.ask("DELETE", "events/delete_all")
    assert (answer.status, list(answer.body)) == (500, ["msg"])
    assert (await api.ask("GET", "eventsKeysByApp")).body[0]["counts"] == {"boot": 1}


async def test_without_the_database_every_call_is_500_as_the_document_says() -> None:
    async with door("postgresql://127.0.0.1:9/weir", database_connect_seconds=1) as api:
        api.bucket, api.secrets["owner"] = UNKNOWN, bearer(new_secret("access"))
        for method, path, body in CALLS.values():
            answer = await api.ask(method, path, body)
            assert (answer.status, list(answer.body)) == (500, ["msg"])
            assert "127.0.0.1" not in answer.body["msg"]
        async with api.session.get(f"{api.url}/readyz") as response:
            assert response.status == 503
            assert "database" in (await response.json())["missing"]


async def test_ready_without_kafka_but_degraded_and_never_without_migrations(
    api: Door, empty_database_dsn: str
) -> None:
    async with api.session.get(f"{api.url}/readyz") as response:
        found = await response.json()
        assert (response.status, found["ready"], list(found["degraded"])) == (200, True, ["kafka"])
        assert found["edition"] in ("apache", "community")
        assert found["revision"] == newest_revision()
    async with (
        door(empty_database_dsn) as unmigrated,
        unmigrated.session.get(f"{unmigrated.url}/readyz") as response,
    ):
        assert response.status == 503
        assert (await response.json())["missing"]


async def test_a_browser_finds_its_way(api: Door) -> None:
    async with api.session.get(f"{api.url}/") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        page = await response.text()
        assert "<h1>Weir</h1>" in page
        assert '<a href="docs">' in page
    async with api.session.get(f"{api.url}/metrics") as response:
        assert "weir_query_seconds" in await response.text()
