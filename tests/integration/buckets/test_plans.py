"""Plans, trials and invoices."""

from __future__ import annotations

from tests.integration.buckets.calls import ask, query
from tests.support.api_door import Door, api_door


async def test_upgrade_sets_plan_and_retention(api: Door, database_dsn: str) -> None:
    answer = await ask(api, "POST", "upgrade", {"plan": "wide"})
    assert answer.status == 200
    assert answer.body["bucket"]["plan"] == "wide"
    assert answer.body["subscription"]["plan"] == "wide"
    assert query(database_dsn, "SELECT plan, retention_days FROM buckets WHERE name = 'first'") == [
        ("wide", 400)
    ]
    # What costs nothing has no subscription, and no invoices.
    assert (await ask(api, "GET", "subscription")).status == 404
    charges = await ask(api, "GET", "payment/charges")
    assert (charges.status, charges.body) == (200, [])


async def test_charges_400(api: Door) -> None:
    for body in (b"{", b"[]", b"\xff"):
        answer = await ask(api, "GET", "payment/charges", body)
        assert (answer.status, list(answer.body)) == (400, ["msg"])


async def test_a_trial_begins_once_and_lifts_the_limit_of_members(api: Door, database_dsn: str) -> None:
    answer = await ask(api, "PUT", "start_trial")
    assert (answer.status, answer.body) == (200, {"duration": "7 days", "plan": "wide"})
    assert (await ask(api, "PUT", "start_trial")).status == 400
    shown = (await ask(api, "GET")).body
    assert (shown["plan"], shown["payment"]["offer_type"]) == ("wide", "free")
    for n in range(3):
        assert (await ask(api, "POST", "add_user", {"email": f"{n}@example.com"})).status == 200
    query(database_dsn, "UPDATE buckets SET trial_ends_at = now() WHERE name = 'first'")
    assert (await ask(api, "GET")).body["plan"] == "free"
    assert (await ask(api, "POST", "add_user", {"email": "9@example.com"})).status == 403


async def test_start_trial_400_where_nothing_can_be_tried(database_dsn: str) -> None:
    async with api_door(database_dsn, plans={"free": {}}) as api:
        assert (await ask(api, "PUT", "start_trial")).status == 400
