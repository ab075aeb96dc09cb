"""Plans: what a bucket may, by its plan or by the trial that it is on.

Pure; the plans come from the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schema.errors import Denied, Invalid
from schema.settings import Plan, TenancySettings


@dataclass(frozen=True, slots=True)
class Standing:
    """A bucket's plan and trial as its row has them. ``plan`` None: the default."""

    plan: str | None
    trial_plan: str | None = None
    trial_ends_at: datetime | None = None


class Plans:
    """The plans of the settings."""

    def __init__(self, settings: TenancySettings) -> None:
        self._plans: Mapping[str, Plan] = settings.plans
        self.default = settings.default_plan

    def named(self, name: str) -> Plan:
        """A plan that a caller named. Raises Invalid."""
        if name not in self._plans:
            raise Invalid(f"plan: there is no such plan; choose one of {', '.join(self._plans)}")
        return self._plans[name]

    def name_of(self, standing: Standing, now: datetime) -> str:
        """The plan that holds at ``now``."""
        if standing.trial_plan and standing.trial_ends_at and now < standing.trial_ends_at:
            return standing.trial_plan
        return standing.plan or self.default

    def limits_of(self, standing: Standing, now: datetime) -> Plan:
        """What holds at ``now``; a plan that left the settings counts as the default one."""
        return self._plans.get(self.name_of(standing, now), self._plans[self.default])

    def is_paid(self, name: str | None) -> bool:
        """Whether a bucket's own plan costs anything."""
        plan = self._plans.get(name or self.default)
        return plan is not None and plan.monthly_price > 0

    def trial(self) -> tuple[str, Plan] | None:
        """What can be tried: the first plan that has a trial."""
        return next(((name, plan) for name, plan in self._plans.items() if plan.trial_days), None)


def check_buckets(limits: Plan, owned: int, plan: str) -> None:
    """Whether an owner of ``owned`` buckets on a plan may have one more. Raises Denied (403)."""
    if limits.buckets is not None and owned >= limits.buckets:
        raise Denied(f"no more than {limits.buckets} buckets of one owner on the plan {plan}")


def check_members(limits: Plan, members: int) -> None:
    """Whether a bucket of ``members`` members and open invitations may have one more. Raises Denied (403)."""
    if limits.members is not None and members >= limits.members:
        raise Denied(f"the bucket's plan allows {limits.members} members, open invitations included")
