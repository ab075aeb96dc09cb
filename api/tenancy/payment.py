"""Payment: the one interface that a provider would implement, and what happens without any.

Neighbours: ``billing`` asks; nothing else knows of money. A provider is handed in where the process is put
together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schema.errors import Denied


@dataclass(frozen=True, slots=True)
class Charge:
    """One invoice. ``amount``: in the currency's smallest unit."""

    charge_id: str
    amount: int
    currency: str
    created_at: datetime
    paid: bool


class Payment(Protocol):
    """What a provider does."""

    async def subscribe(self, bucket_id: str, plan: str, card_token: str | None, coupon: str | None) -> str:
        """Begin to charge for a plan; returns the subscription's id. Raises Denied (403), Unavailable."""

    async def charges(self, bucket_id: str) -> list[Charge]:
        """What was charged for a bucket, newest first. Raises Unavailable."""

    async def has_card(self, user_id: str) -> bool:
        """Whether a user could pay. Raises Unavailable."""


class NoPayment:
    """No provider: nothing costs anything, and nothing that would can be had."""

    async def subscribe(self, bucket_id: str, plan: str, card_token: str | None, coupon: str | None) -> str:
        """Nobody can pay."""
        del bucket_id, plan, card_token, coupon
        raise Denied("need a credit card, and no payment provider is set up here")

    async def charges(self, bucket_id: str) -> list[Charge]:
        """Nothing was charged."""
        del bucket_id
        return []

    async def has_card(self, user_id: str) -> bool:
        """Nobody has one."""
        del user_id
        return False
