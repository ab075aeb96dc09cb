"""Mail after the answer: nothing of the answer depends on it, and nothing of it is lost in silence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from structlog.testing import capture_logs

from tests.support.api_door import Answer, Door, api_door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.mail import SmtpServer, smtp_server

PATH = "/api/oauth/reset_password"
PASSWORD = "correct horse battery"
KNOWN, UNKNOWN = "owner@example.com", "unknown@example.com"


def by(server: SmtpServer, **options: Any) -> dict[str, Any]:
    """Settings under which mail goes to a server of the test's own."""
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": server.port,
        "smtp_security": "none",
        "smtp_seconds": 30,
        "public_url": "https://weir.example",
        **options,
    }


async def ask(api: Door, address: str) -> Answer:
    return await api.ask("POST", PATH, {"email": address}, who="nobody")


def told(answer: Answer) -> tuple[int, Any, Mapping[str, str]]:
    """All that a caller is told, but for what is new each time."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    for name in ("date", "x-request-id"):
        del headers[name]
    return answer.status, answer.body, headers


def unsent(logs: list[Any]) -> list[int]:
    return [line["count"] for line in logs if line["event"] == "mail left unsent"]


async def test_a_reset_says_the_same_as_fast_whatever_the_address_and_what_hangs_is_said_at_the_stop(
    database_dsn: str,
) -> None:
    async with smtp_server(hangs=True) as server:
        options = by(server, mail_grace_seconds=0.5)
        with capture_logs() as logs:
            async with api_door(database_dsn, **options) as api:
                said, slowest = [], 0.0
                for address in [KNOWN, UNKNOWN, KNOWN.upper(), "nobody@nowhere.invalid", KNOWN, UNKNOWN]:
                    began = time.monotonic()
                    said.append(told(await ask(api, address)))
                    slowest = max(slowest, time.monotonic() - began)
                assert said == said[:1] * len(said)
                assert said[0][0] == 200
                # The server answers nobody for half a minute; a busy machine has its room.
                assert slowest < 5
                await server.until_connected(3)
                began = time.monotonic()
            assert time.monotonic() - began < 5
    assert unsent(logs) == [3]
    assert KNOWN not in str(logs).lower()


async def test_what_waits_when_the_process_stops_is_sent(database_dsn: str) -> None:
    async with smtp_server(answer_seconds=0.5) as server:
        with capture_logs() as logs:
            async with api_door(database_dsn, **by(server)) as api:
                # More than are sent at one time.
                asked = ["owner", "admin", "user", "member", "stranger", "root"]
                for who in asked:
                    assert (await ask(api, f"{who}@example.com")).status == 200
                assert len(server.taken) < len(asked)
        found = sorted(address_of(mail) for mail in server.taken)
        assert found == sorted(f"{who}@example.com" for who in asked)
    assert unsent(logs) == []


def address_of(mail: bytes) -> str:
    (line,) = [line for line in mail.decode().splitlines() if line.startswith("To: ")]
    return line.removeprefix("To: ")


@AT_AND_ABOVE
async def test_no_more_mail_waits_than_the_setting_says(database_dsn: str, beyond: int) -> None:
    async with smtp_server(hangs=True) as server:
        options = by(server, mail_queue=2, mail_grace_seconds=0)
        async with api_door(database_dsn, **options) as api:
            for who in ("admin", "user")[: 1 + beyond]:
                assert (await ask(api, f"{who}@example.com")).status == 200
            await server.until_connected(1 + beyond)
            body = {"username": "Ada", "email": "ada@example.com", "password": PASSWORD}
            registered = await api.ask("POST", "/api/oauth/register", body, who="nobody")
            if beyond:
                # Neither who has an account is told, nor is somebody made whose mail has no place.
                known, unknown = told(await ask(api, KNOWN)), told(await ask(api, UNKNOWN))
                assert known == unknown
                assert (known[0], known[2]["retry-after"]) == (503, "10")
                assert (registered.status, list(registered.body)) == (503, ["msg"])
            else:
                assert registered.status == 200
                await server.until_connected(2)
    with psycopg.connect(database_dsn) as connection:
        made = connection.execute("SELECT 1 FROM users WHERE email = 'ada@example.com'").fetchall()
    assert len(made) == 1 - beyond


async def test_a_stop_waits_for_nothing_where_nothing_waits(database_dsn: str) -> None:
    async with api_door(database_dsn, mail_grace_seconds=8) as api:
        assert (await ask(api, UNKNOWN)).status == 200
        began = time.monotonic()
    assert time.monotonic() - began < 5
