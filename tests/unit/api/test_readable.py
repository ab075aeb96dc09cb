"""Which buckets a caller may read, decided over rows of the credential query."""

from __future__ import annotations

from typing import Any

import pytest

from api.http.readable import ReadableBucket, readable

DAY = 86_400 * 1_000_000
BUCKET = "a" * 24


def row(**changed: Any) -> dict[str, Any]:
    return {
        "user_id": "b" * 24,
        "superuser": False,
        "scope": None,
        "key_bucket_id": None,
        "bucket_id": BUCKET,
        "bucket_keys": [7],
        "retention_days": None,
        "bucket_role": None,
        "workspace_role": None,
        "now_microseconds": 100 * DAY,
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({}, False),
        ({"bucket_role": "user"}, True),
        ({"workspace_role": "member"}, True),
        ({"superuser": True}, True),
        ({"superuser": True, "scope": "ingest"}, False),
        ({"bucket_role": "owner", "scope": "ingest"}, False),
        ({"bucket_role": "user", "scope": "read"}, True),
        ({"user_id": None, "scope": "read", "key_bucket_id": BUCKET}, True),
        ({"user_id": None, "scope": "admin", "key_bucket_id": "c" * 24}, False),
        ({"bucket_role": "owner", "bucket_keys": None, "bucket_id": None}, False),
    ],
)
def test_what_is_readable(changed: dict[str, Any], seen: bool) -> None:
    assert readable([row(**changed)]) == ((ReadableBucket(7, 0),) if seen else ())


def test_each_bucket_has_its_own_retention() -> None:
    rows = [
        row(superuser=True, bucket_keys=[9], retention_days=10),
        row(superuser=True, bucket_keys=[8, 3], retention_days=500),
    ]
    assert [(b.bucket_key, b.visible_from) for b in readable(rows)] == [(3, 0), (8, 0), (9, 90 * DAY)]
