"""Who is calling, and what they may: keys, tokens, scopes, roles. Pure; nothing here does I/O.

A secret is a readable prefix and 256 random bits. Only its SHA-256 is ever stored; with that much
entropy a slow hash buys nothing, and equality of digests is decided by an index or a constant-time
comparison. The rules in words: docs/accounts.md.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

BUCKET_ID = re.compile(r"[0-9a-f]{24}")
_SECRET = re.compile(r"weir_(ingest|read|admin|access|refresh|mail)_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """What an API key is good for."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class Role(StrEnum):
    """What a member of a bucket is to it, least first."""

    USER = "user"
    ADMIN = "admin"
    OWNER = "owner"


class Action(StrEnum):
    """What somebody wants to do to a bucket."""

    WRITE = "write"
    READ = "read"
    # Its members, plan and bills, and what a user leaves there in his own name: for users only, never for a
    # key.
    SEE_MEMBERS = "see_members"
    DELETE_EVENTS = "delete_events"
    MANAGE = "manage"
    OWN = "own"


_SCOPE_ACTIONS: dict[Scope, frozenset[Action]] = {
    Scope.INGEST: frozenset({Action.WRITE}),
    Scope.READ: frozenset({Action.READ}),
    Scope.ADMIN: frozenset({Action.WRITE, Action.READ, Action.DELETE_EVENTS}),
}
_ROLE_ACTIONS: dict[Role, frozenset[Action]] = {
    Role.USER: frozenset({Action.READ, Action.SEE_MEMBERS}),
    Role.ADMIN: frozenset(Action) - {Action.OWN},
    Role.OWNER: frozenset(Action),
}
# A workspace's owner and admin count as admin of its buckets, its members as user.
_WORKSPACE_ROLE: dict[str, Role] = {"owner": Role.ADMIN, "admin": Role.ADMIN, "member": Role.USER}
_RANK = {Role.USER: 1, Role.ADMIN: 2, Role.OWNER: 3}


@dataclass(frozen=True, slots=True)
class Caller:
    """A resolved credential: a user's token, or an API key with its scope."""

    user_id: str | None = None
    superuser: bool = False
    scope: Scope | None = None
    key_bucket_id: str | None = None


def bucket_role(bucket_role: str | None, workspace_role: str | None) -> Role | None:
    """The stronger of a membership of the bucket and one of its workspace; None: neither."""
    roles = []
    if bucket_role is not None:
        roles.append(Role(bucket_role))
    if workspace_role is not None:
        roles.append(_WORKSPACE_ROLE[workspace_role])
    return max(roles, key=_RANK.__getitem__, default=None)


def may(caller: Caller, action: Action, bucket_id: str, role: Role | None) -> bool:
    """Whether ``caller`` may do ``action`` to the bucket; ``role`` is the user's role in it, if any.

    A key of a bucket is good for that bucket alone. A key of a user is good for what its scope and
    the user's role both allow: who only reads a bucket writes to it by no key of his own.
    """
    if caller.scope is not None:
        if action not in _SCOPE_ACTIONS[caller.scope]:
            return False
        if caller.key_bucket_id is not None:
            return caller.key_bucket_id == bucket_id
    if caller.superuser:
        return True
    return role is not None and action in _ROLE_ACTIONS[role]


def new_secret(kind: str) -> str:
    """A fresh secret: ``weir_<kind>_`` and 256 random bits in base64url."""
    secret = f"weir_{kind}_{secrets.token_urlsafe(32)}"
    assert _SECRET.fullmatch(secret), f"unknown kind of secret: {kind}"
    return secret


def secret_digest(secret: str) -> bytes:
    """SHA-256 of a secret: what the database holds of it (32 bytes)."""
    return hashlib.sha256(secret.encode()).digest()


def same_digest(left: bytes, right: bytes) -> bool:
    """Constant-time equality."""
    return hmac.compare_digest(left, right)


def looks_like_secret(text: str) -> bool:
    """Whether ``text`` has the form of one of our secrets; anything else is refused unasked."""
    return _SECRET.fullmatch(text) is not None


def secret_prefix(secret: str) -> str:
    """The part that may be shown and logged: enough to recognise a key, useless to forge one."""
    return secret[: secret.index("_", 5) + 7]


def new_bucket_id() -> str:
    """24 hex digits, as the clients of the bucket API expect."""
    return secrets.token_hex(12)
