"""The calls of one bucket, and how a test makes one."""

from __future__ import annotations

import base64
from typing import Any

import psycopg

from tests.support.api_door import Answer, Door

KEY = base64.b64encode(bytes(range(32))).decode()
UNKNOWN = "f" * 24
PLANS = {
    "free": {"buckets": 3, "members": 4, "retention_days": 30},
    "wide": {"buckets": 5, "members": 9, "retention_days": 400, "trial_days": 7},
    "narrow": {"members": 2},
    "single": {"buckets": 0},
    "paid": {"monthly_price": 49},
}


def query(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


async def ask(
    api: Door,
    method: str,
    call: str = "",
    body: Any = None,
    *,
    who: str = "owner",
    bucket: str = "first",
    **headers: str,
) -> Answer:
    bucket_id = api.buckets.get(bucket, bucket)
    path = f"/api/bucket/{bucket_id}" + (f"/{call}" if call else "")
    return await api.ask(method, path, {} if body is None else body, who=who, **headers)


# Every call of one bucket: how it is made, and what the least of those who may are.
CALLS: dict[str, tuple[str, str, Any, str]] = {
    "retrieve": ("GET", "", {}, "read"),
    "update": ("PUT", "", {"comment": "x"}, "manage"),
    "current_role": ("GET", "current_role", {}, "belong"),
    "subscription": ("GET", "subscription", {}, "belong"),
    "add_user": ("POST", "add_user", {"email": "new@example.com"}, "manage"),
    "meta_servers": ("GET", "meta_servers", {}, "read"),
    "users_authorized": ("GET", "users_authorized", {}, "belong"),
    "upgrade": ("POST", "upgrade", {"plan": "wide"}, "own"),
    "invitation": ("DELETE", "invitation?email=new@example.com", {}, "manage"),
    "remove_user": ("POST", "remove_user", {"email": "unknown@example.com"}, "manage"),
    "charges": ("GET", "payment/charges", {}, "belong"),
    "feedback": ("PUT", "feedback", {"feedback": "good"}, "belong"),
    "manage_notif": ("POST", "manage_notif", {"email": "owner@example.com", "state": "none"}, "manage"),
    "promote_user": ("POST", "promote_user", {"email": "user@example.com", "role": "user"}, "manage"),
    "user_options": ("PUT", "user_options", {"options": {"a": 1}}, "belong"),
    "start_trial": ("PUT", "start_trial", {}, "own"),
    "transfer_ownership": ("POST", "transfer_ownership", {"new_owner": "unknown@example.com"}, "own"),
    "destroy": ("DELETE", "", {}, "own"),
}
