"""PM2's own agent, unchanged, against the real gateway; its events and its machine, read back.

Both forms in which it is published: the package by itself, and the copy that PM2 has brought along since 7.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schema.topics import ensure_topics
from tests.support.pm2_machine import machine
from tests.support.processes import Process, Weir, call, deployed
from tests.support.topics import TopicNames

pytestmark = pytest.mark.timeout(300)
# An attempt every five seconds, each link held for as long; and a busy machine.
ARRIVAL_SECONDS = 60.0
REVOKED_SECONDS = 30.0


@pytest.fixture
async def weir(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> AsyncIterator[Weir]:
    await ensure_topics(topics.settings(kafka_bootstrap))
    settings = {"WEIR_SECRET_KEY": base64.b64encode(bytes(32)).decode()}
    with deployed(kafka_bootstrap, database_dsn, topics, tmp_path, **settings) as weir:
        yield weir


class Bucket:
    """The bucket, through the query API, as its owner."""

    def __init__(self, weir: Weir, api: Process) -> None:
        self._api = api
        self._id = weir.credentials.bucket_id
        self._headers = {"Authorization": f"Bearer {weir.credentials.access_token}"}
        shown = self.ask("GET", f"/api/bucket/{self._id}")
        self.public_id, self.secret_id = shown["public_id"], shown["secret_id"]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        status, answer = call(self._api, method, path, body, self._headers)
        assert status == 200, answer
        return answer

    def events(self, name: str) -> list[dict[str, Any]]:
        """Newest first."""
        asked = {"event_name": name, "limit": 1000}
        return list(self.ask("POST", f"/api/bucket/{self._id}/data/events", asked))

    def numbers(self, name: str) -> list[int]:
        """What the events of this name carry, in order."""
        return sorted(event["data"]["n"] for event in self.events(name))

    def names(self) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/api/bucket/{self._id}/data/eventsKeysByApp"))

    def nodes(self) -> list[dict[str, Any]]:
        """Of today."""
        asked = {"day": datetime.now(UTC).isoformat()}
        return list(self.ask("POST", f"/bucket/{self._id}/stats", asked)["nodeStats"])

    def servers(self) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/api/bucket/{self._id}/meta_servers"))

    def delete(self) -> None:
        self.ask("DELETE", f"/api/bucket/{self._id}")


def until(question: Callable[[], object], expected: object, seconds: float = ARRIVAL_SECONDS) -> None:
    """Ask again until the answer is this one."""
    deadline = time.monotonic() + seconds
    while (found := question()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def links_of(gateway: Process) -> int:
    """WebSockets of agents that are open."""
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as answer:
        found = re.search(r"^weir_agent_links (\d+)", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def test_an_agents_events_and_machine_are_read_back_through_a_restart(weir: Weir) -> None:
    gateway, api = weir.start("gateway", WEIR_GATEWAY_SETTLE_SECONDS="0"), weir.start("api")
    weir.start("writer")
    bucket = Bucket(weir, api)
    begun_at = time.time()
    with machine(weir.folder, "till-1", gateway.url) as till:
        till.start_shop()
        till.start_agent(bucket.public_id, bucket.secret_id)
        until(lambda: links_of(gateway), 1)
        until(lambda: [node["node_status"] for node in bucket.nodes()], ["ONLINE"])
        till.sell("sale", range(5))
        until(lambda: bucket.numbers("sale"), [0, 1, 2, 3, 4])
        for event in bucket.events("sale"):
            assert (event["app_name"], event["server_name"], event["device_name"]) == ("shop", "till-1", "")
            assert begun_at - 1 < event["at"] / 1000 < time.time() + 1
            assert event["data"] == {
                "n": event["data"]["n"],
                "item": "Türklinke",
                "price": 12.5,
                "parts": ["a", {"b": None}],
            }
        [node] = bucket.nodes()
        assert (node["host"], node["version"], node["perc_uptime"]) == ("till-1", till.pm2_version, 100)
        assert node["ip"]
        assert (node["avg_latency_ms"], node["last_latency_ms"]) == (None, None)
        [server] = bucket.servers()
        assert (server["server_name"], server["apps"], server["event_count"]) == ("till-1", ["shop"], 5)
        assert server["node"] == {
            "ip": node["ip"],
            "host": "till-1",
            "version": till.pm2_version,
            "status": "ONLINE",
        }

        # It keeps what happens while there is no gateway, and tries many times in parallel to find one.
        gateway.kill()
        till.sell("meanwhile", range(150))
        await asyncio.sleep(4)
        gateway = weir.start("gateway", WEIR_GATEWAY_PORT=str(gateway.port))
        until(lambda: bucket.numbers("meanwhile"), list(range(150)))
        # By now all of its attempts had their turn. Not a dozen came through; its handshake may have brought
        # one more, as it does once a minute.
        await asyncio.sleep(5.5)
        assert links_of(gateway) in (1, 2)
        till.sell("sale", range(5, 10))
        until(lambda: bucket.numbers("sale"), list(range(10)))
        assert bucket.names() == [
            {"app_name": "shop", "events": ["meanwhile", "sale"], "counts": {"meanwhile": 150, "sale": 10}}
        ]
        assert gateway.terminate() == 0
        assert "FATAL" not in till.log()


async def test_pm2s_command_line_links_with_the_right_pair_only_and_a_deleted_bucket_ends_its_link(
    weir: Weir,
) -> None:
    gateway = weir.start("gateway", WEIR_GATEWAY_SETTLE_SECONDS="0", WEIR_KEY_REFRESH_SECONDS="5")
    api = weir.start("api")
    weir.start("writer")
    bucket = Bucket(weir, api)
    with machine(weir.folder, "till-2", gateway.url) as till:
        till.start_shop()
        refused = till.link(bucket.public_id, "0" * 32)
        assert refused.returncode == 1
        assert "no bucket has this public and secret id" in refused.stdout + refused.stderr
        linked = till.link(bucket.public_id, bucket.secret_id)
        assert linked.returncode == 0, linked.stdout + linked.stderr
        until(lambda: links_of(gateway), 1)
        till.sell("sale", range(3))
        until(lambda: bucket.numbers("sale"), [0, 1, 2])
        until(lambda: [server["node"] is not None for server in bucket.servers()], [True])
        [server] = bucket.servers()
        assert (server["server_name"], server["apps"]) == ("till-2", ["shop"])
        assert server["node"]["version"] == till.pm2_version

        bucket.delete()
        until(lambda: links_of(gateway), 0, REVOKED_SECONDS)
        refused = till.link(bucket.public_id, bucket.secret_id)
        assert refused.returncode == 1
