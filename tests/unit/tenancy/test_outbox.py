"""Mail that leaves after the answer: tried again, given up in the end, never the end of what comes next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from api.tenancy.mail import Mail, Message
from api.tenancy.outbox import Outbox
from schema.errors import Invalid, Overloaded, Unavailable
from schema.metrics import ApiMetrics
from schema.settings import MailSettings
from tests.support.mail import SmtpServer, smtp_server

ADDRESS = "ada@example.com"
MESSAGE = Message(ADDRESS, "Subject", "Hello\n")


@asynccontextmanager
async def outbox(server: SmtpServer, registry: CollectorRegistry) -> AsyncIterator[Outbox]:
    """Whatever it was given is worked off when the block has ended."""
    settings = MailSettings(
        smtp_host="127.0.0.1", smtp_port=server.port, smtp_security="none", mail_grace_seconds=8
    )
    made = Outbox(settings, Mail(settings), ApiMetrics(registry), waits_seconds=(0.01, 0.01))
    lifetime = made.lifetime()
    await anext(lifetime)
    yield made
    with pytest.raises(StopAsyncIteration):
        await anext(lifetime)


async def message() -> Message:
    return MESSAGE


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    found = {
        outcome: registry.get_sample_value("weir_mails_total", {"outcome": outcome})
        for outcome in ("sent", "failed", "refused", "left")
    }
    return {outcome: value for outcome, value in found.items() if value}


@pytest.mark.parametrize(("refusals", "sent"), [(0, True), (2, True), (3, False)])
async def test_a_mail_is_tried_three_times(refusals: int, sent: bool) -> None:
    registry = CollectorRegistry()
    with capture_logs() as logs:
        async with smtp_server(refusals=refusals) as server, outbox(server, registry) as made:
            made.put("reset", message)
    assert server.connected == (refusals + 1 if sent else 3)
    assert len(server.taken) == sent
    assert outcomes(registry) == {"sent" if sent else "failed": 1}
    assert registry.get_sample_value("weir_mails_waiting") == 0
    assert [line["purpose"] for line in logs if line["event"] == "mail not sent"] == ["reset"] * (not sent)
    assert ADDRESS not in str(logs)


async def test_what_fails_neither_ends_what_comes_next_nor_quotes_anything() -> None:
    tries = 0

    async def away_at_first() -> Message:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable("database: away")
        return MESSAGE

    async def refused() -> Message:
        raise Invalid("email: no")

    async def broken() -> Message:
        raise RuntimeError(ADDRESS)

    async def nobody() -> None:
        return None

    registry = CollectorRegistry()
    with capture_logs() as logs:
        async with smtp_server() as server, outbox(server, registry) as made:
            for compose in (broken, refused, nobody, away_at_first) * 5:
                made.put("reset", compose)
    assert outcomes(registry) == {"sent": 5, "failed": 10}
    assert len(server.taken) == server.connected == 5
    assert sorted(line["reason"] for line in logs if line["event"] == "mail not sent") == sorted(
        ["RuntimeError", "email: no"] * 5
    )
    assert ADDRESS not in str(logs)


async def test_a_place_is_kept_and_given_back() -> None:
    registry = CollectorRegistry()
    settings = MailSettings(mail_queue=1)
    made = Outbox(settings, Mail(settings), ApiMetrics(registry))
    for _ in range(3):
        with made.place():
            with pytest.raises(Overloaded):
                made.put("reset", message)
            assert registry.get_sample_value("weir_mails_waiting") == 1
    assert registry.get_sample_value("weir_mails_waiting") == 0
    with made.place() as put:
        put("confirm", message)
    with pytest.raises(Overloaded) as refused:
        made.put("reset", message)
    assert (refused.value.status, outcomes(registry)) == (503, {"refused": 4})


async def test_with_no_more_time_what_waits_is_left_and_said() -> None:
    registry = CollectorRegistry()
    async with smtp_server(hangs=True) as server:
        settings = MailSettings(
            smtp_host="127.0.0.1", smtp_port=server.port, smtp_security="none", mail_grace_seconds=0.1
        )
        made = Outbox(settings, Mail(settings), ApiMetrics(registry))
        lifetime = made.lifetime()
        await anext(lifetime)
        for _ in range(7):
            made.put("reset", message)
        with capture_logs() as logs, pytest.raises(StopAsyncIteration):
            await anext(lifetime)
    assert [line["count"] for line in logs if line["event"] == "mail left unsent"] == [7]
    assert outcomes(registry) == {"left": 7}
