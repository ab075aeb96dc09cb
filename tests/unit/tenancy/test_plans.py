"""Plans: what holds now, what a trial changes, and what the settings refuse."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from api.tenancy.plans import Plans, Standing, check_buckets, check_members
from schema.errors import Denied, Invalid
from schema.settings import Plan, TenancySettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = TenancySettings(
    plans={"free": Plan(buckets=2, members=2), "more": Plan(monthly_price=1, trial_days=3)}
)


def test_the_plan_that_holds() -> None:
    plans = Plans(SETTINGS)
    assert plans.name_of(Standing(None), NOW) == "free"
    assert plans.name_of(Standing("more"), NOW) == "more"
    trial = Standing("free", "more", NOW + timedelta(seconds=1))
    assert plans.name_of(trial, NOW) == "more"
    assert plans.name_of(trial, NOW + timedelta(seconds=1)) == "free"
    assert plans.limits_of(Standing("gone from the settings"), NOW) == SETTINGS.plans["free"]
    assert plans.trial() == ("more", SETTINGS.plans["more"])
    assert (plans.is_paid("more"), plans.is_paid(None), plans.is_paid("unknown")) == (True, False, False)
    with pytest.raises(Invalid):
        plans.named("unknown")


def test_limits() -> None:
    check_buckets(Plan(buckets=2), 1, "p")
    check_members(Plan(members=2), 1)
    check_buckets(Plan(), 10**6, "p")
    check_members(Plan(), 10**6)
    with pytest.raises(Denied):
        check_buckets(Plan(buckets=2), 2, "p")
    with pytest.raises(Denied):
        check_members(Plan(members=2), 2)


def test_plans_come_from_the_environment_and_the_default_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_PLANS", '{"team": {"members": 3}}')
    with pytest.raises(ValidationError):
        TenancySettings()
    monkeypatch.setenv("WEIR_DEFAULT_PLAN", "team")
    assert TenancySettings().plans == {"team": Plan(members=3)}
    monkeypatch.setenv("WEIR_PLANS", '{"team": {"membres": 3}}')
    with pytest.raises(ValidationError):
        TenancySettings()
