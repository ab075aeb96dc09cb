"""The live feed at the real servers: who may follow, what comes, and how a connection ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp
import psycopg
import pytest

from api.http.authentication import Credential
from api.live.rights import RightsQuery
from api.tenancy.administration import administration, create_access_token, create_refresh_token
from schema.connections import Duty, close_pool, open_pool
from schema.settings import DatabaseSettings
from schema.topics import ensure_topics
from tests.support.api_door import UNAUTHORIZED, Door, api_door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.followers import Follower, following, public_ids, token_of
from tests.support.proxy import proxy_before
from tests.support.records import Topic, event, events, record, report, reports, topic_of
from tests.support.topics import TopicNames

CONFIRM_SECONDS = 0.4


@dataclass(slots=True)
class Scene:
    """A door with its people, and the topic. ``public``: public ids by the buckets' names."""

    door: Door
    topic: Topic
    dsn: str
    public: dict[str, str]
    stack: AsyncExitStack

    async def follower(self, who: str = "owner", bucket: str | None = "first", **options: object) -> Follower:
        """Somebody connected, who follows a bucket."""
        headers = self.door.secrets[who]
        token = token_of(self.door, who) if "Authorization" in headers else None
        given = None if token else headers
        connection = following(self.door.session, self.door.url, token, given, **options)
        follower = await self.stack.enter_async_context(connection)
        if bucket is not None:
            await follower.follow(self.public[bucket])
            await follower.settled()
        return follower

    async def send(self, *ids: str, bucket: str = "first", data: bytes = b"{}", partition: int = 0) -> None:
        """One record with these events, as the gateway would have written it."""
        tails = [event(identifier, data=data) for identifier in ids]
        await self.topic.send(record(events(self.door.buckets[bucket], *tails)), partition)

    async def metric(self, name: str) -> float:
        async with self.door.session.get(f"{self.door.url}/metrics") as answer:
            text = await answer.text()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.fixture
async def scene(kafka_bootstrap: str, database_dsn: str, topics: TopicNames) -> AsyncIterator[Scene]:
    settings = topics.settings(kafka_bootstrap)
    await ensure_topics(settings)
    async with AsyncExitStack() as stack:
        topic = await stack.enter_async_context(topic_of(settings))
        door = await stack.enter_async_context(
            api_door(
                database_dsn,
                kafka_bootstrap=kafka_bootstrap,
                kafka_events_topic=topics.events,
                live_confirm_seconds=CONFIRM_SECONDS,
                live_connections=30,
                live_caller_connections=29,
                live_subscriptions=2,
                live_message_bytes=2048,
                live_queue_bytes=256 * 1024,
            )
        )
        ids = public_ids(database_dsn)
        public = {name: ids[bucket_id] for name, bucket_id in door.buckets.items()}
        yield Scene(door, topic, database_dsn, public, stack)


async def test_what_comes_and_by_which_patterns(scene: Scene) -> None:
    """Events of the followed bucket, in order, none of another; patterns are heeded, and can be changed."""
    # An event that was accepted before is not live.
    await scene.send("earlier")
    all_of_it, by_pattern, status, both = [await scene.follower() for _ in range(4)]
    await by_pattern.follow(scene.public["first"], ["status", "human:*"])
    await status.follow(scene.public["first"], ["status"])
    await both.follow(scene.public["second"])
    for one in (by_pattern, status, both):
        await one.settled()
    bucket_id = scene.door.buckets["first"]
    await scene.topic.send(record(reports(bucket_id, report()), events(bucket_id, event("e1"), event("e2"))))
    await scene.send("s1", bucket="second")
    await scene.send("t1", bucket="theirs")
    assert await all_of_it.ids(2) == ["e1", "e2"]
    assert await by_pattern.ids(2) == ["e1", "e2"]
    assert await both.ids(3) == ["e1", "e2", "s1"]
    # Everything again, and another bucket no longer.
    await status.follow(scene.public["first"], ["status", ""])
    await both.follow(scene.public["first"], action="unsub")
    await both.follow("unknown", action="unsub")
    for one in (status, both):
        await one.settled()
    await scene.send("e3")
    await scene.send("s2", bucket="second")
    assert await all_of_it.ids(1) == ["e3"]
    assert await status.ids(1) == ["e3"]
    assert await both.ids(1) == ["s2"]
    assert await scene.metric("weir_live_subscribers") == 4
    assert await scene.metric("weir_live_subscriptions") == 4
    assert await scene.metric("weir_live_reading") == 1


async def test_who_may_follow_what(scene: Scene) -> None:
    """Whoever may read the bucket; others are told so and closed, as if there were none."""
    for who in ("owner", "admin", "user", "member", "root", "first read key", "first admin key"):
        follower = await scene.follower(who)
        await scene.send(f"for {who}")
        assert await follower.ids(1) == [f"for {who}"], who
        await follower.socket.close()
    refused = []
    for who, bucket in (
        ("stranger", "first"),
        ("owner", "theirs"),
        ("user", "second"),
        ("second read key", "first"),
        ("first ingest key", "first"),
    ):
        follower = await scene.follower(who, None)
        await follower.follow(scene.public[bucket])
        refused.append(await follower.ending())
    follower = await scene.follower("owner", None)
    await follower.follow("no-such-bucket")
    refused.append(await follower.ending())
    assert set(refused) == {(1008, "no bucket of this public id that may be read")}
    for who in UNAUTHORIZED:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await scene.follower(who)
        assert caught.value.status == 401, who


async def test_an_expired_token_follows_while_its_refresh_token_stands(scene: Scene) -> None:
    """And no longer than that: on connecting, and while it is connected."""
    with administration(scene.dsn) as connection:
        user = scene.door.users["owner"]
        refresh = create_refresh_token(connection, user)
        token = create_access_token(connection, user, lifetime=timedelta(seconds=-100), refresh_token=refresh)
    expired = {"Authorization": f"Bearer {token}"}
    assert (await scene.door.ask("GET", "/api/bucket", who="nobody", **expired)).status == 401
    scene.door.secrets["late"] = expired
    follower = await scene.follower("late")
    await scene.send("e1")
    assert await follower.ids(1) == ["e1"]
    await asyncio.sleep(2 * CONFIRM_SECONDS)
    await scene.send("e2")
    assert await follower.ids(1) == ["e2"]
    revoked = await scene.door.ask("POST", "/api/oauth/revoke", {"token": refresh}, who="nobody")
    assert revoked.status == 200
    assert await follower.ending() == (1008, "the access token or API key is unknown or revoked")
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await scene.follower("late")
    assert caught.value.status == 401
    # What a session of the console gave up for another one is over, too.
    with administration(scene.dsn) as connection:
        refresh = create_refresh_token(connection, user)
        token = create_access_token(connection, user, lifetime=timedelta(seconds=-1), refresh_token=refresh)
        connection.execute("UPDATE refresh_tokens SET replaced_at = now()")
    scene.door.secrets["replaced"] = {"Authorization": f"Bearer {token}"}
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await scene.follower("replaced")


async def test_rights_end_while_somebody_follows(scene: Scene) -> None:
    """A membership, a key, the bucket itself: whoever loses the right gets nothing more and is told."""
    user, key, owner = [await scene.follower(who) for who in ("user", "first read key", "owner")]
    answer = await scene.door.ask(
        "POST", f"/api/bucket/{scene.door.buckets['first']}/remove_user", {"email": "user@example.com"}
    )
    assert answer.status == 200
    assert await user.ending() == (1008, "no bucket of this public id that may be read any more")
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE scope = 'read'")
    assert (await key.ending())[0] == 1008
    await scene.send("e1")
    assert await owner.ids(1) == ["e1"]
    assert (await scene.door.ask("DELETE", f"/api/bucket/{scene.door.buckets['first']}", {})).status == 200
    assert (await owner.ending())[0] == 1008
    assert await scene.metric("weir_live_dropped_total") == 3
    assert await scene.metric("weir_live_subscribers") == 0
    # Nobody is left, so nobody reads the topic.
    assert await scene.metric("weir_live_reading") == 0


async def test_what_was_deleted_is_fenced(scene: Scene) -> None:
    """After delete_all the rights say from where on events may be shown; those after it are."""
    follower = await scene.follower()
    await scene.send("before")
    await scene.send("before too", partition=1)
    assert sorted(await follower.ids(2)) == ["before", "before too"]
    answer = await scene.door.ask(
        "DELETE", f"/api/bucket/{scene.door.buckets['first']}/data/events/delete_all", {}
    )
    assert answer.status == 200
    pool = await open_pool(DatabaseSettings(database_dsn=scene.dsn), Duty.API)
    try:
        rights = RightsQuery(pool, scene.topic.settings.kafka_events_topic, 5)
        credential = Credential(token_of(scene.door, "owner"), is_key=False)
        asked = [scene.public["first"], scene.public["theirs"], "\0"]
        found = (await rights.of(credential, asked)).followed
    finally:
        await close_pool(pool, 1)
    assert list(found) == [scene.public["first"]]
    assert found[scene.public["first"]].fences == {0: 1, 1: 1, 2: 0, 3: 0}
    await asyncio.sleep(2 * CONFIRM_SECONDS)
    await scene.send("after")
    assert await follower.ids(1) == ["after"]


async def opcodes_until_the_end(reader: asyncio.StreamReader) -> list[int]:
    """The first byte of each frame that still arrives; behind the answer's headers."""
    opcodes = []
    with suppress(ConnectionResetError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        while True:
            first, short = await reader.readexactly(2)
            opcodes.append(first)
            size = {126: 2, 127: 8}.get(short, 0)
            length = int.from_bytes(await reader.readexactly(size)) if size else short
            await reader.readexactly(length)
    assert opcodes
    return opcodes


async def test_a_slow_subscriber_is_dropped_while_others_go_on(scene: Scene) -> None:
    """One that does not read loses its connection, without a close frame; the others miss nothing."""
    quick = await scene.follower()
    address = urlsplit(scene.door.url)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(slow, (address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=slow, limit=1024)
    try:
        writer.write(
            f"GET /primus?token={token_of(scene.door, 'owner')} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 101 " in await reader.readline()
        text = b'{"action":"sub","public_id":"%s"}' % scene.public["first"].encode()
        # A masked frame of text; a mask of zeros changes nothing.
        writer.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        await asyncio.sleep(0.5)
        assert await scene.metric("weir_live_subscriptions") == 2
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        received: list[str] = []
        data = b'{"x":"%s"}' % (b"y" * 100_000)
        for number in range(200):
            await scene.send(f"e{number}", data=data)
            received += await quick.ids(1)
            if await scene.metric('weir_live_dropped_total{reason="slow"}') == 1:
                break
        assert received == [f"e{number}" for number in range(len(received))]
        assert await scene.metric('weir_live_dropped_total{reason="slow"}') == 1
        assert await scene.metric("weir_live_subscribers") == 1
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert 0x88 not in await opcodes_until_the_end(reader)
    finally:
        writer.transport.abort()
    await scene.send("last")
    assert await quick.ids(1) == ["last"]


async def test_messages_that_are_not_understood(scene: Scene) -> None:
    """A message that is not understood: told and closed; none of it reaches others."""
    other = await scene.follower()
    for text, reason in (
        ("no json", "message: "),
        ('{"action":"sub"}', "public_id: "),
        ('{"action":"publish","public_id":"x"}', "action: "),
        ('{"action":"sub","public_id":"x","filters":"all"}', "filters: "),
    ):
        follower = await scene.follower("owner", None)
        await follower.socket.send_str(text)
        code, why = await follower.ending()
        assert (code, why[: len(reason)]) == (1008, reason)
    follower = await scene.follower("owner", None)
    await follower.socket.send_bytes(b"{}")
    assert (await follower.ending())[0] == 1008
    await scene.send("e1")
    assert await other.ids(1) == ["e1"]


@AT_AND_ABOVE
async def test_a_connection_follows_so_many_buckets(scene: Scene, beyond: int) -> None:
    many = await scene.follower("root")
    for bucket in ["second", "theirs"][: 1 + beyond]:
        await many.follow(scene.public[bucket])
    if beyond:
        assert await many.ending() == (1008, "at most 2 buckets for one connection")
    else:
        await many.settled()
        await scene.send("e1", bucket="second")
        assert await many.ids(1) == ["e1"]


@AT_AND_ABOVE
async def test_a_message_has_its_bytes(scene: Scene, beyond: int) -> None:
    follower = await scene.follower("owner", None)
    text = f'{{"action":"sub","public_id":"{scene.public["first"]}"}}'
    await follower.socket.send_str(text + " " * (2048 + beyond - len(text)))
    if beyond:
        assert (await follower.ending())[0] == 1009
    else:
        await follower.settled()
        await scene.send("e1")
        assert await follower.ids(1) == ["e1"]


@AT_AND_ABOVE
async def test_a_full_process_drops_the_connection(scene: Scene, beyond: int) -> None:
    """No status at all: any would be the end of it for the client library. No upgrade: an answer."""
    for who in ["owner"] * 29 + ["root"]:
        await scene.follower(who, None)
    assert await scene.metric('weir_live_shed_total{reason="full"}') == 0
    if not beyond:
        return
    with pytest.raises(aiohttp.ClientConnectionError):
        await scene.follower("root", None)
    # The client asks once more by itself where a connection is lost without an answer.
    assert await scene.metric('weir_live_shed_total{reason="full"}') >= 1
    assert (await scene.door.ask("GET", "/primus")).status == 426
    assert (await scene.door.ask("GET", "/primus", who="nobody")).status == 401


@AT_AND_ABOVE
async def test_one_caller_does_not_take_every_connection(scene: Scene, beyond: int) -> None:
    """However many sessions: the next one is told so, while others still get in; one that ends makes room."""
    followers = [await scene.follower("owner", None) for _ in range(29)]
    assert await scene.metric('weir_live_shed_total{reason="caller"}') == 0
    if not beyond:
        return
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await scene.follower("owner", None)
    assert refused.value.status == 429
    assert await scene.metric('weir_live_shed_total{reason="caller"}') == 1
    await scene.follower("root", None)
    await followers[0].socket.close()
    async with asyncio.timeout(10):
        while True:
            try:
                await scene.follower("owner", None)
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.1)
            else:
                break


async def test_without_kafka_the_feed_is_paused_and_says_so(database_dsn: str) -> None:
    async with api_door(database_dsn, kafka_request_seconds=1) as door:
        ids = public_ids(database_dsn)
        began_at = time.monotonic()
        async with following(door.session, door.url, token_of(door, "owner")) as follower:
            await follower.follow(ids[door.buckets["first"]])
            assert time.monotonic() - began_at < 10
            ready = await door.ask("GET", "/readyz", who="nobody")
            assert ready.status == 200
            assert ready.body["degraded"]["live_feed"].startswith("paused: Kafka")
        ready = await door.ask("GET", "/readyz", who="nobody")
        assert "live_feed" not in ready.body["degraded"]


async def test_without_the_database_a_subscriber_is_served_for_a_while(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames
) -> None:
    """New ones are dropped, so that they come again; those that are there go on, and then are dropped too."""
    settings = topics.settings(kafka_bootstrap)
    await ensure_topics(settings)
    with proxy_before(database_dsn) as (proxy, dsn):
        async with (
            topic_of(settings) as topic,
            api_door(
                dsn,
                kafka_bootstrap=kafka_bootstrap,
                kafka_events_topic=topics.events,
                live_confirm_seconds=0.5,
                live_outage_seconds=4,
                database_command_seconds=0.5,
                database_connect_seconds=0.5,
            ) as door,
            following(door.session, door.url, token_of(door, "owner")) as follower,
        ):
            await follower.follow(public_ids(database_dsn)[door.buckets["first"]])
            await follower.settled()
            proxy.freeze()
            await topic.send(record(events(door.buckets["first"], event("e1"))))
            assert await follower.ids(1) == ["e1"]
            with pytest.raises(aiohttp.ClientConnectionError):
                async with following(door.session, door.url, token_of(door, "owner")):
                    pass
            assert await follower.ending() == (1006, "")
            proxy.thaw()
