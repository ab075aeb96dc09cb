"""The calls themselves, and how a test makes one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from query.interval import DAY, SECOND
from query.plan import HOUR
from tests.support.api_door import Answer, Door

UNKNOWN = "f" * 24
NOON = 1_790_000_000 * SECOND // DAY * DAY + 12 * HOUR
CALLS: dict[str, tuple[str, str, Any]] = {
    "list": ("POST", "events", {"event_name": "boot"}),
    "histogram": ("POST", "events/stats", {"event_name": "boot"}),
    "names": ("GET", "eventsKeysByApp", {}),
    "alias": ("GET", "events/eventsKeysByApp", {}),
    "delete": ("DELETE", "events/delete_all", {}),
}


async def ask(
    api: Door,
    method: str,
    path: str,
    body: Any = None,
    *,
    who: str = "owner",
    bucket: str = "first",
    **headers: str,
) -> Answer:
    """One call; ``bucket``: by its name, or an id."""
    bucket_id = quote(api.buckets.get(bucket, bucket), safe="%")
    given = {} if body is None else body
    return await api.ask(method, f"/api/bucket/{bucket_id}/data/{path}", given, who=who, **headers)
