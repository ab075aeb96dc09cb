"""Who may do what: every combination of credential, role and action."""

from __future__ import annotations

from itertools import product

import pytest

from schema.identities import (
    BUCKET_ID,
    Action,
    Caller,
    Role,
    Scope,
    bucket_role,
    looks_like_secret,
    may,
    new_bucket_id,
    new_secret,
    same_digest,
    secret_digest,
    secret_prefix,
)

HERE, ELSEWHERE = "a" * 24, "b" * 24
SCOPES = {
    Scope.INGEST: {Action.WRITE},
    Scope.READ: {Action.READ},
    Scope.ADMIN: {Action.WRITE, Action.READ, Action.DELETE_EVENTS},
}
ROLES: dict[Role | None, set[Action]] = {
    None: set(),
    Role.USER: {Action.READ, Action.SEE_MEMBERS},
    Role.ADMIN: {Action.READ, Action.SEE_MEMBERS, Action.WRITE, Action.DELETE_EVENTS, Action.MANAGE},
    Role.OWNER: set(Action),
}


@pytest.mark.parametrize(("scope", "action"), [*product(Scope, Action)])
def test_a_buckets_key_is_good_for_its_scope_in_its_bucket_alone(scope: Scope, action: Action) -> None:
    caller = Caller(scope=scope, key_bucket_id=HERE)
    assert may(caller, action, HERE, None) == (action in SCOPES[scope])
    assert not may(caller, action, ELSEWHERE, Role.OWNER)


@pytest.mark.parametrize(("scope", "role", "action"), [*product(Scope, ROLES, Action)])
def test_a_users_key_is_good_for_what_scope_and_role_both_allow(
    scope: Scope, role: Role | None, action: Action
) -> None:
    caller = Caller(user_id="u", scope=scope)
    assert may(caller, action, HERE, role) == (action in SCOPES[scope] and action in ROLES[role])


@pytest.mark.parametrize(("role", "action"), [*product(ROLES, Action)])
def test_a_token_is_good_for_its_users_role(role: Role | None, action: Action) -> None:
    assert may(Caller(user_id="u"), action, HERE, role) == (action in ROLES[role])
    assert may(Caller(user_id="u", superuser=True), action, HERE, role)


@pytest.mark.parametrize(
    ("own", "workspace", "role"),
    [
        (None, None, None),
        ("user", None, Role.USER),
        (None, "member", Role.USER),
        (None, "admin", Role.ADMIN),
        (None, "owner", Role.ADMIN),
        ("owner", "member", Role.OWNER),
        ("user", "owner", Role.ADMIN),
    ],
)
def test_the_stronger_membership_counts(own: str | None, workspace: str | None, role: Role | None) -> None:
    assert bucket_role(own, workspace) == role


@pytest.mark.parametrize("kind", ["ingest", "read", "admin", "access", "refresh"])
def test_secrets_are_long_distinct_and_recognised(kind: str) -> None:
    secrets = {new_secret(kind) for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert looks_like_secret(secret)
        assert not looks_like_secret(secret + "x")
        assert not looks_like_secret(f" {secret}")
        assert len(secret_prefix(secret)) <= len(f"weir_{kind}_") + 8
        assert same_digest(secret_digest(secret), secret_digest(secret))
    assert len({secret_digest(secret) for secret in secrets}) == 100
    assert len({secret_prefix(secret) for secret in secrets}) > 90


def test_a_secret_of_an_unknown_kind_is_not_made() -> None:
    with pytest.raises(AssertionError):
        new_secret("root")


def test_bucket_ids_have_their_form() -> None:
    assert BUCKET_ID.fullmatch(new_bucket_id())
    assert new_bucket_id() != new_bucket_id()
