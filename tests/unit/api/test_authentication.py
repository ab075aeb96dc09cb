"""Credentials as they are sent, and the decision over what the database says of them."""

from typing import Any

import pytest

from api.http.authentication import Credential, credential_of, granted
from schema.errors import Denied
from schema.identities import Action

BUCKET = "0123456789abcdef01234567"
OTHER = "76543210fedcba9876543210"
ROW: dict[str, Any] = {
    "user_id": "a" * 24,
    "scope": None,
    "key_bucket_id": None,
    "superuser": False,
    "bucket_key": 7,
    "retention_days": None,
    "bucket_role": None,
    "workspace_role": None,
    "now_microseconds": 10 * 86_400_000_000,
}


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({}, None),
        ({"Authorization": "Bearer null"}, None),
        ({"Authorization": "Bearer undefined"}, None),
        ({"Authorization": "Bearer "}, None),
        ({"Authorization": "Bearer"}, None),
        ({"Authorization": "Basic abc"}, None),
        ({"X-Api-Key": ""}, None),
        ({"Authorization": "bearer  t"}, Credential("t", is_key=False)),
        ({"X-Api-Key": " k "}, Credential("k", is_key=True)),
        ({"Authorization": "Bearer null", "X-Api-Key": "k"}, Credential("k", is_key=True)),
        ({"Authorization": "Bearer t", "X-Api-Key": "k"}, Credential("t", is_key=False)),
    ],
)
def test_a_credential_is_a_bearer_token_or_an_api_key(
    headers: dict[str, str], credential: Credential | None
) -> None:
    assert credential_of(headers) == credential


@pytest.mark.parametrize(
    ("found", "read", "delete"),
    [
        ({}, False, False),
        ({"bucket_role": "user"}, True, False),
        ({"bucket_role": "admin"}, True, True),
        ({"bucket_role": "owner"}, True, True),
        ({"workspace_role": "member"}, True, False),
        ({"workspace_role": "admin"}, True, True),
        ({"superuser": True}, True, True),
        ({"user_id": None, "scope": "read", "key_bucket_id": BUCKET}, True, False),
        ({"user_id": None, "scope": "ingest", "key_bucket_id": BUCKET}, False, False),
        ({"user_id": None, "scope": "admin", "key_bucket_id": BUCKET}, True, True),
        ({"user_id": None, "scope": "admin", "key_bucket_id": OTHER}, False, False),
        ({"scope": "read", "bucket_role": "owner"}, True, False),
        ({"scope": "admin", "bucket_role": "user"}, True, False),
        ({"scope": "ingest", "superuser": True}, False, False),
    ],
)
def test_who_may(found: dict[str, Any], read: bool, delete: bool) -> None:
    for action, allowed in ((Action.READ, read), (Action.DELETE_EVENTS, delete)):
        if allowed:
            assert granted({**ROW, **found}, BUCKET, action).bucket_key == 7
        else:
            with pytest.raises(Denied) as refusal:
                granted({**ROW, **found}, BUCKET, action)
            assert refusal.value.status == 403


def test_an_unknown_bucket_is_404() -> None:
    with pytest.raises(Denied) as refusal:
        granted({**ROW, "superuser": True, "bucket_key": None}, BUCKET, Action.READ)
    assert refusal.value.status == 404


@pytest.mark.parametrize(("days", "visible_from"), [(None, 0), (3, 7 * 86_400_000_000), (2**31 - 1, 0)])
def test_a_buckets_retention_ends_what_is_visible(days: int | None, visible_from: int) -> None:
    row = {**ROW, "superuser": True, "retention_days": days}
    assert granted(row, BUCKET, Action.READ).visible_from == visible_from
