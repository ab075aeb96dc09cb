"""The client library that this API was made for, unchanged, against a running stack.

``tests/support/node/js_api.js`` calls it; here is judged what it printed. Run with ``-s`` to see every call.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.tenancy.administration import administration, create_refresh_token, create_user
from api.tenancy.secrecy import new_key
from schema.topics import ensure_topics
from tests.support.node_programs import MANIFESTS, NODE, environment, node_folder
from tests.support.processes import Process, Weir, deployed
from tests.support.proxy import Proxy
from tests.support.topics import TopicNames

# What every call of the library answers, in the order of the script: its 18 calls of buckets and 4 of events.
EXPECTED = [
    ("bucket.retrieve", 200),
    ("data.events.retrieve", 200),
    ("data.events.retrieveMetadatas", 200),
    ("data.events.retrieveHistogram", 200),
    ("data.events.deleteAll", 200),
    ("data.events.retrieve (deleted)", 200),
    ("bucket.retrieveAll", 200),
    ("bucket.create", 200),
    ("bucket.retrieve", 200),
    ("bucket.update", 200),
    ("bucket.currentRole", 200),
    ("bucket.inviteUser", 200),
    ("bucket.inviteUser", 200),
    ("bucket.retrieveUsers", 200),
    ("bucket.removeInvitation", 200),
    ("bucket.setUserRole", 200),
    ("bucket.setNotificationState", 200),
    ("bucket.removeUser", 200),
    ("bucket.sendFeedback", 200),
    ("bucket.updateUserOptions", 200),
    ("bucket.retrieveServers", 200),
    ("bucket.upgrade", 200),
    ("bucket.claimTrial", 200),
    ("bucket.upgrade (paid)", 403),
    ("bucket.inviteUser", 200),
    ("bucket.transferOwnership", 200),
    ("bucket.destroy (no longer the owner)", 403),
    ("bucket.create", 200),
    ("bucket.destroy", 200),
    ("bucket.retrieve (destroyed)", 404),
    ("auth.revoke", 200),
]
# A second plan without a price: without a payment provider the library's order of a paid one is refused.
PLANS = {"free": {"members": 5}, "team": {"members": 20}, "pro": {"monthly_price": 49, "trial_days": 14}}


@pytest.fixture
async def weir(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> AsyncIterator[Weir]:
    await ensure_topics(topics.settings(kafka_bootstrap))
    with deployed(
        kafka_bootstrap,
        database_dsn,
        topics,
        tmp_path,
        WEIR_SECRET_KEY=new_key(),
        WEIR_MAIL_FOLDER=str(tmp_path / "mail"),
        WEIR_PLANS=orjson.dumps(PLANS).decode(),
    ) as weir:
        yield weir


@pytest.fixture
def front() -> Iterator[Proxy]:
    """What stands before the query API, as a load balancer does."""
    proxy = Proxy("127.0.0.1", 0)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def prepared(weir: Weir, front: Proxy, gateway: Process) -> dict[str, Any]:
    """What the script is given: the bucket's owner with a refresh token, and two more users."""
    others = {"member": "member@example.com", "heir": "heir@example.com"}
    with administration(weir.database_dsn) as connection:
        row = connection.execute(
            "SELECT user_id FROM bucket_members WHERE bucket_id = %s", [weir.credentials.bucket_id]
        ).fetchone()
        assert row is not None
        refresh_token = create_refresh_token(connection, str(row[0]))
        for email in others.values():
            create_user(connection, email)
    return {
        "api": f"http://127.0.0.1:{front.port}",
        "gateway": gateway.url,
        "refresh_token": refresh_token,
        "bucket_id": weir.credentials.bucket_id,
        "ingest_key": weir.credentials.ingest_key,
        "others": others,
    }


def show(line: str) -> None:
    """For whoever runs this with ``-s``."""
    sys.stdout.write(f"{line}\n")


async def test_every_call_of_the_client_library_and_its_live_events(weir: Weir, front: Proxy) -> None:
    """Each call has its documented status; live events come within a second, also after a lost connection."""
    folder = await asyncio.to_thread(node_folder)
    gateway, api, another_api = weir.start("gateway"), weir.start("api"), weir.start("api")
    front.lead_to(api.port)
    weir.start("writer")
    script = await asyncio.create_subprocess_exec(
        NODE,
        MANIFESTS / "js_api.js",
        orjson.dumps(prepared(weir, front, gateway)).decode(),
        env={**environment(), "NODE_FOLDER": str(folder)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1024 * 1024,
    )
    lines: list[dict[str, Any]] = []
    noise: list[str] = []
    try:
        assert script.stdout is not None
        async with asyncio.timeout(100):
            async for text in script.stdout:
                try:
                    line = orjson.loads(text)
                except orjson.JSONDecodeError:
                    noise.append(text.decode())
                    continue
                lines.append(line)
                if "call" in line:
                    show(f"{line['call']:<40} → {line['status']}")
                elif "live" in line:
                    show(f"live event {line['live']['name']}")
                match line.get("step"):
                    case "expire the token":
                        with administration(weir.database_dsn) as connection:
                            connection.execute("UPDATE access_tokens SET expires_at = now()")
                    case "lose the connection":
                        # The process ends, as at a deployment, and another one takes its place.
                        front.lead_to(another_api.port)
                        assert await asyncio.to_thread(api.terminate) == 0
                    case _:
                        continue
                assert script.stdin is not None
                script.stdin.write(b"done\n")
            await script.wait()
    finally:
        if script.returncode is None:
            script.kill()
            await script.wait()
    assert lines, noise
    assert (lines[-1], noise) == ({"step": "done"}, [])
    assert [(line["call"], line["status"]) for line in lines if "call" in line] == EXPECTED
    judge_answers({line["call"]: line["data"] for line in lines if "call" in line})
    judge_live_events(lines)


def judge_answers(answers: dict[str, Any]) -> None:
    """That they are what was asked for, where the status alone would not say it."""
    assert [event["event_name"] for event in answers["data.events.retrieve"]] == ["door_opened"] * 2
    assert answers["data.events.retrieveMetadatas"] == [
        {"app_name": "doors", "events": ["door_opened"], "counts": {"door_opened": 3}}
    ]
    assert sum(count for _, count in answers["data.events.retrieveHistogram"]) == 3
    assert answers["data.events.deleteAll"] == answers["data.events.retrieveMetadatas"]
    assert answers["data.events.retrieve (deleted)"] == []
    assert answers["bucket.update"]["name"] == "renamed"
    assert answers["bucket.update"]["configuration"] == {"colour": "blue"}
    assert answers["bucket.currentRole"] == {"role": "owner"}
    assert len(answers["bucket.create"]["bucket"]["secret_id"]) >= 16
    assert {user["email"] for user in answers["bucket.retrieveUsers"]} >= {"member@example.com"}


def judge_live_events(lines: list[dict[str, Any]]) -> None:
    """Each came once, within a second of its acceptance."""
    accepted_at = [line["accepted_at"] for line in lines if line.get("step") == "sent"]
    live = [line for line in lines if "live" in line]
    assert [(line["live"]["name"], line["live"]["data"]) for line in live] == [
        *(("door_opened", {"n": n}) for n in (1, 2, 3)),
        ("door_closed", {}),
    ]
    delays = [
        line["received_at"] - accepted_at[0 if line["live"]["name"] == "door_opened" else 1] for line in live
    ]
    show(f"live events came {max(delays)} ms after their acceptance at the latest")
    assert max(delays) < 1000
