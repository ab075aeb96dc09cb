"""What a payment provider changes: subscriptions, invoices, and transfers of buckets on a paid plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.accounts import add_account_routes
from api.app import clients
from api.http.bodies import Allowance
from api.http.problems import bucket_form, door
from api.http.serving import Listening, listening
from api.surfaces.requests import Inbox
from api.tenancy.payment import Charge
from schema.errors import Denied, Unavailable
from schema.metrics import ApiMetrics, DoorMetrics
from schema.settings import ApiSettings, Plan
from tests.support.api_door import Door, api_door


class Till:
    """A provider that takes one card, and its time. ``asked``: bucket and plan; ``at_once``: at most."""

    def __init__(self) -> None:
        self.charged: dict[str, list[Charge]] = {}
        self.cards: set[str] = set()
        self.away = False
        self.seconds = 0.0
        self.asked: list[tuple[str, str]] = []
        self.asking = self.at_once = 0
        self.began = asyncio.Event()

    async def subscribe(self, bucket_id: str, plan: str, card_token: str | None, coupon: str | None) -> str:
        self.asked.append((bucket_id, plan))
        self.began.set()
        self.asking += 1
        self.at_once = max(self.asking, self.at_once)
        await asyncio.sleep(self.seconds)
        self.asking -= 1
        if self.away:
            raise Unavailable("the provider does not answer", retry_after_seconds=2)
        if card_token != "tok_good":
            raise Denied("need a credit card")
        at = datetime(2026, 1, 1, tzinfo=UTC)
        self.charged[bucket_id] = [Charge("ch_1", 4900, "eur", at, paid=True)]
        return f"sub_{plan}_{coupon}"

    async def charges(self, bucket_id: str) -> list[Charge]:
        return self.charged.get(bucket_id, [])

    async def has_card(self, user_id: str) -> bool:
        return user_id in self.cards


@pytest.fixture
async def till() -> Till:
    return Till()


@asynccontextmanager
async def served(settings: ApiSettings, people: Door, till: Till) -> AsyncIterator[Door]:
    """The calls about accounts and buckets, as one process has them: with a pool of its own."""
    registry = CollectorRegistry()
    app = web.Application(middlewares=[door(DoorMetrics(registry), {"/api": bucket_form})])
    async with clients(settings) as parts:
        metrics, inbox = ApiMetrics(registry), Inbox(settings, Allowance(1 << 20))
        add_account_routes(app, settings, parts.primary, parts.reader, inbox, metrics, till)
        async with (
            listening(app, Listening("127.0.0.1", 0, 5, 5)) as port,
            aiohttp.ClientSession() as session,
        ):
            yield Door(session, f"http://127.0.0.1:{port}", people.buckets, people.users, people.secrets)


@pytest.fixture
async def both(database_dsn: str, tmp_path: Path, till: Till) -> AsyncIterator[tuple[Door, Door]]:
    """Two processes before the same database and the same provider."""
    settings = ApiSettings(
        database_dsn=database_dsn,
        mail_folder=str(tmp_path),
        plans={"free": Plan(), "pro": Plan(monthly_price=49), "more": Plan(monthly_price=99)},
        request_seconds=4,
    )
    async with (
        api_door(database_dsn) as people,
        served(settings, people, till) as one,
        served(settings, people, till) as other,
    ):
        yield one, other


@pytest.fixture
async def api(both: tuple[Door, Door]) -> Door:
    return both[0]


async def test_a_paid_plan_with_a_card(api: Door, till: Till) -> None:
    path = f"/api/bucket/{api.buckets['first']}"
    refused = await api.ask("POST", f"{path}/upgrade", {"plan": "pro", "stripe_token": "tok_bad"})
    assert (refused.status, refused.body) == (403, {"msg": "need a credit card"})
    assert (await api.ask("GET", f"{path}/subscription")).status == 404
    upgrade = {"plan": "pro", "stripe_token": "tok_good", "coupon_id": "spring"}
    answer = await api.ask("POST", f"{path}/upgrade", upgrade)
    assert answer.status == 200
    assert answer.body["bucket"]["plan"] == "pro"
    assert answer.body["subscription"]["_id"] == "sub_pro_spring"
    shown = await api.ask("GET", f"{path}/subscription", who="user")
    assert (shown.status, shown.body) == (200, answer.body["subscription"])
    charges = await api.ask("GET", f"{path}/payment/charges")
    assert (charges.status, charges.body) == (
        200,
        [
            {
                "_id": "ch_1",
                "amount": 4900,
                "currency": "eur",
                "created_at": "2026-01-01T00:00:00+00:00",
                "paid": True,
            }
        ],
    )
    transfer = {"new_owner": "user@example.com"}
    assert (await api.ask("POST", f"{path}/transfer_ownership", transfer)).status == 403
    till.cards.add(api.users["user"])
    assert (await api.ask("POST", f"{path}/transfer_ownership", transfer)).status == 200


async def test_a_provider_that_is_away_is_a_500_and_changes_nothing(api: Door, till: Till) -> None:
    path = f"/api/bucket/{api.buckets['first']}"
    before = (await api.ask("GET", path)).body
    till.away = True
    answer = await api.ask("POST", f"{path}/upgrade", {"plan": "pro", "stripe_token": "tok_good"})
    assert (answer.status, list(answer.body)) == (500, ["msg"])
    assert (await api.ask("GET", path)).body == before
    assert (await api.ask("GET", f"{path}/subscription")).status == 404


async def test_of_two_upgrades_at_once_the_second_sees_the_first(both: tuple[Door, Door], till: Till) -> None:
    till.seconds = 0.3
    bucket = both[0].buckets["first"]

    async def upgrades(*plans: str) -> list[tuple[int, str]]:
        """Status, and the subscription or what was refused, of orders that come at once at both processes."""
        orders = [
            both[place % 2].ask(
                "POST", f"/api/bucket/{bucket}/upgrade", {"plan": plan, "stripe_token": "tok_good"}
            )
            for place, plan in enumerate(plans)
        ]
        answers = await asyncio.gather(*orders)
        return [
            (
                answer.status,
                answer.body["subscription"]["_id"] if answer.status == 200 else answer.body["msg"],
            )
            for answer in answers
        ]

    assert sorted(await upgrades("pro", "pro", "pro", "pro")) == [
        (200, "sub_pro_None"),
        *[(403, "the bucket is on the plan pro already")] * 3,
    ]
    assert till.asked == [(bucket, "pro")]
    # From there to another plan and to one that costs nothing: one after the other, and the last one holds.
    assert {status for status, _ in await upgrades("more", "free")} == {200}
    assert (len(till.asked), till.at_once) == (2, 1)
    shown = await both[0].ask("GET", f"/api/bucket/{bucket}")
    charged = await both[0].ask("GET", f"/api/bucket/{bucket}/subscription")
    expected = {"more": (200, "sub_more_None"), "free": (404, None)}
    assert (charged.status, charged.body.get("_id")) == expected[shown.body["plan"]]


async def test_a_provider_that_dawdles_holds_no_row_and_has_a_bound(api: Door, till: Till) -> None:
    path = f"/api/bucket/{api.buckets['first']}"
    till.seconds = 30
    upgrade = asyncio.create_task(
        api.ask("POST", f"{path}/upgrade", {"plan": "pro", "stripe_token": "tok_good"})
    )
    await asyncio.wait_for(till.began.wait(), 5)
    # What else holds the bucket's row, and its owner's, goes on meanwhile.
    assert (await api.ask("POST", f"{path}/add_user", {"email": "stranger@example.com"})).status == 200
    assert (await api.ask("POST", "/api/bucket/create_classic", {"name": "x"})).status == 200
    assert not upgrade.done()
    answer = await upgrade
    assert (answer.status, list(answer.body)) == (500, ["msg"])
    assert (await api.ask("GET", path)).body["plan"] == "free"
