"""Who and what there is: three tenants, everybody who calls, and what they call with.

"ours" is whom the table is about. "elsewhere" belongs to the stranger who calls. "theirs" belongs to nobody
who calls: not a row of it may change, and not a word of it may show.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from api.tenancy.administration import (
    add_workspace_member,
    create_access_token,
    create_api_key,
    create_bucket,
    create_refresh_token,
    create_user,
    create_workspace,
    new_id,
    revoke_api_key,
)
from schema.identities import Scope, new_secret, secret_digest, secret_prefix
from tests.support.stored import Occurrence

Connection = psycopg.Connection[tuple[Any, ...]]
Headers = dict[str, str]
LIFE = timedelta(hours=1)
EVENT = "wombat-boot"
# A device of ours, and one of theirs: one id, two tenants, events of one name.
SHARED_DEVICE = "shared-device"
OURS_OF_IT, THEIRS_OF_IT = 2, 3
OUTSIDE = ("stranger", "former", "newcomer")


@dataclass(slots=True)
class Tenant:
    """``word`` begins every text of its: whoever finds it where it does not belong has found a leak."""

    word: str
    workspace: str
    bucket: str
    people: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    public_id: str = ""
    secret_id: str = ""
    key: str = ""
    key_id: str = ""
    own_key_id: str = ""
    receipt: str = ""
    invitation: str = ""
    confirmation: str = ""

    @property
    def key_prefix(self) -> str:
        """What may be shown of its key."""
        return secret_prefix(self.key)


def bearer(secret: str) -> Headers:
    """The headers of an access token."""
    return {"Authorization": f"Bearer {secret}"}


def key_of_user(connection: Connection, user_id: str, scope: Scope) -> tuple[str, str]:
    """A user's own key: its id and its text."""
    key_id, secret = new_id(), new_secret(scope.value)
    connection.execute(
        "INSERT INTO api_keys (key_id, prefix, secret_sha256, scope, user_id) VALUES (%s, %s, %s, %s, %s)",
        (key_id, secret_prefix(secret), secret_digest(secret), scope.value, user_id),
    )
    return key_id, secret


def token_of_key(connection: Connection, key_id: str) -> str:
    """An access token, as the grant client_credentials gives one."""
    secret = new_secret("access")
    connection.execute(
        "INSERT INTO access_tokens (secret_sha256, key_id, expires_at) VALUES (%s, %s, now() + %s)",
        (secret_digest(secret), key_id, LIFE),
    )
    return secret


def mail_token(connection: Connection, user_id: str) -> str:
    """What confirms a user's address."""
    secret = new_secret("mail")
    connection.execute(
        "INSERT INTO mail_tokens (secret_sha256, user_id, purpose, expires_at)"
        " VALUES (%s, %s, 'confirm', now() + %s)",
        (secret_digest(secret), user_id, LIFE),
    )
    return secret


def invite(connection: Connection, bucket_id: str, email: str) -> str:
    """An open invitation; its secret."""
    secret = new_secret("mail")
    connection.execute(
        "INSERT INTO bucket_invitations (bucket_id, email, secret_sha256) VALUES (%s, %s, %s)",
        (bucket_id, email, secret_digest(secret)),
    )
    return secret


def join(connection: Connection, bucket_id: str, user_id: str, role: str) -> None:
    """A member of a bucket."""
    connection.execute(
        "INSERT INTO bucket_members (bucket_id, user_id, role) VALUES (%s, %s, %s)",
        (bucket_id, user_id, role),
    )


def new_tenant(connection: Connection, word: str) -> Tenant:
    """A workspace, a bucket, its owner and a member, and a row in every table that holds a tenant's."""
    people = {who: create_user(connection, f"{word}-{who}@example.com") for who in ("owner", "user")}
    workspace = create_workspace(connection, f"{word}-workspace")
    bucket = create_bucket(connection, workspace, f"{word}-bucket", owner_id=people["owner"])
    tenant = Tenant(word, workspace, bucket, people)
    add_workspace_member(connection, workspace, people["owner"], "owner")
    join(connection, bucket, people["user"], "user")
    tenant.key_id, tenant.key = create_api_key(connection, bucket, Scope.ADMIN, name=f"{word}-key")
    tenant.own_key_id, _ = key_of_user(connection, people["owner"], Scope.ADMIN)
    create_access_token(
        connection,
        people["owner"],
        lifetime=LIFE,
        refresh_token=create_refresh_token(connection, people["owner"]),
    )
    tenant.confirmation = mail_token(connection, people["owner"])
    tenant.invitation = invite(connection, bucket, f"{word}-invited@example.com")
    _fill(connection, tenant)
    tenant.ids |= {workspace, bucket, tenant.key_id, tenant.own_key_id, tenant.key_prefix, *people.values()}
    return tenant


_ROWS = """
INSERT INTO bucket_feedback (bucket_id, user_id, feedback) VALUES (%(bucket)s, %(owner)s, %(word)s);
INSERT INTO bucket_user_options (bucket_id, user_id, options)
VALUES (%(bucket)s, %(owner)s, jsonb_build_object('word', %(word)s::text));
INSERT INTO devices (bucket_id, device, name) VALUES (%(bucket)s, %(word)s || '-device', %(word)s);
INSERT INTO node_reports (bucket_id, host, ip, observed_at, received_at, version, status, interval_seconds)
VALUES (%(bucket)s, %(word)s || '-host', %(word)s || '-ip', now(), now(), '', 'ONLINE', 3600);
INSERT INTO node_retirements (bucket_id, host, ip) VALUES (%(bucket)s, %(word)s || '-old', %(word)s || '-ip');
INSERT INTO fences (bucket_id, topic, partition, epoch, fence_offset, fenced_at)
VALUES (%(bucket)s, %(word)s || '-topic', 0, 1, 0, now());
INSERT INTO dead_letters (bucket_id, topic, partition, epoch, record_offset, position, reason, payload)
VALUES (%(bucket)s, %(word)s || '-topic', 0, 1, 0, 0, 'none', 'x');
UPDATE buckets SET subscription_id = %(word)s || '-subscription', subscribed_at = now()
WHERE bucket_id = %(bucket)s;
"""


def _fill(connection: Connection, tenant: Tenant) -> None:
    named = {"bucket": tenant.bucket, "owner": tenant.people["owner"], "word": tenant.word}
    # Several statements in one go: put together on this side.
    psycopg.ClientCursor(connection).execute(_ROWS, named)


def events_of(tenant: Tenant, now: datetime, shared: int) -> list[Occurrence]:
    """Two events of a device of the tenant's own, and ``shared`` of the one that others have too."""
    word = tenant.word
    # At moments of its own: the words differ.
    begin = int((now - timedelta(days=1)).timestamp()) + sum(word.encode())

    def event(number: int, device: str, name: str) -> Occurrence:
        moment, identifier = (begin + number) * 1_000_000, f"{word}-event-{number}-{device}"
        data = b'{"word": "%b-data"}' % word.encode()
        return Occurrence(moment, identifier, name, f"{word}-app", f"{word}-server", device, data)

    own = [event(number, f"{word}-device", f"{word}-boot") for number in range(2)]
    return own + [event(number, SHARED_DEVICE, EVENT) for number in range(shared)]


@dataclass(slots=True)
class Cast:
    """Everybody who calls. ``credentials``: what each caller of ``columns`` sends. ``users``: ids by name."""

    ours: Tenant
    elsewhere: Tenant
    theirs: Tenant
    second: str
    users: dict[str, str]
    credentials: dict[str, Headers]
    own_keys: dict[str, str]
    spare_key_id: str

    def user_of(self, caller: str) -> str:
        """The name of the user behind a caller; of a key or a nobody: the owner's, for want of another."""
        name = caller.partition("'")[0]
        return name if name in self.users else "owner"


def new_cast(connection: Connection) -> Cast:
    """All tenants and callers, in the database."""
    ours, elsewhere, theirs = (new_tenant(connection, word) for word in ("wombat", "ibex", "quetzal"))
    users = {
        "owner": ours.people["owner"],
        "user": ours.people["user"],
        "stranger": elsewhere.people["owner"],
    }
    # Whoever owns "ours" must owe that to the bucket alone.
    connection.execute("DELETE FROM workspace_members WHERE workspace_id = %s", [ours.workspace])
    for who in ("member", "wadmin", "wowner", "admin", "heir", "root"):
        users[who] = create_user(connection, f"wombat-{who}@example.com", superuser=who == "root")
    for who in ("former", "newcomer", "bystander"):
        users[who] = create_user(connection, f"{who}@example.com")
    for who, role in (("member", "member"), ("wadmin", "admin"), ("wowner", "owner")):
        add_workspace_member(connection, ours.workspace, users[who], role)
    join(connection, ours.bucket, users["admin"], "admin")
    second = create_bucket(connection, ours.workspace, "second-bucket", owner_id=users["owner"])
    cast = Cast(ours, elsewhere, theirs, second, users, {}, {}, "")
    _sign_in(connection, cast)
    _make_keys(connection, cast)
    _make_nobodies(connection, cast)
    return cast


def _sign_in(connection: Connection, cast: Cast) -> None:
    for who, user_id in cast.users.items():
        cast.credentials[who] = bearer(create_access_token(connection, user_id, lifetime=LIFE))
        cast.own_keys[who], _ = key_of_user(connection, user_id, Scope.READ)


def _make_keys(connection: Connection, cast: Cast) -> None:
    ours, credentials = cast.ours, cast.credentials
    for scope in Scope:
        key_id, secret = create_api_key(connection, ours.bucket, scope)
        credentials[f"{scope} key"] = {"X-Api-Key": secret}
        credentials[f"{scope} key's token"] = bearer(token_of_key(connection, key_id))
        for who in ("owner", "user", "member", "stranger", "former", "root"):
            _, secret = key_of_user(connection, cast.users[who], scope)
            credentials[f"{who}'s {scope} key"] = {"X-Api-Key": secret}
    for name, bucket in (("second", cast.second), ("elsewhere", cast.elsewhere.bucket)):
        _, secret = create_api_key(connection, bucket, Scope.ADMIN)
        credentials[f"admin key of {name}"] = {"X-Api-Key": secret}
    cast.spare_key_id, _ = create_api_key(connection, ours.bucket, Scope.READ)


def _make_nobodies(connection: Connection, cast: Cast) -> None:
    owner = cast.users["owner"]
    refresh = create_refresh_token(connection, owner)
    ended = create_access_token(connection, owner, lifetime=LIFE, refresh_token=refresh)
    connection.execute(
        "UPDATE refresh_tokens SET revoked_at = now() WHERE secret_sha256 = %s", [digest(refresh)]
    )
    revoked = create_access_token(connection, owner, lifetime=LIFE)
    connection.execute(
        "UPDATE access_tokens SET revoked_at = now() WHERE secret_sha256 = %s", [digest(revoked)]
    )
    key_id, key = create_api_key(connection, cast.ours.bucket, Scope.ADMIN)
    token = token_of_key(connection, key_id)
    revoke_api_key(connection, key_id)
    own_id, own = key_of_user(connection, owner, Scope.ADMIN)
    revoke_api_key(connection, own_id)
    expired = create_access_token(connection, owner, lifetime=timedelta(seconds=-1))
    cast.credentials |= {
        "nothing": {},
        "Bearer null": bearer("null"),
        "another scheme": {"Authorization": "Basic d29tYmF0OndvbWJhdA=="},
        "garbage token": bearer("garbage"),
        "garbage key": {"X-Api-Key": "garbage"},
        "forged token": bearer(new_secret("access")),
        "forged key": {"X-Api-Key": new_secret("admin")},
        "expired token": bearer(expired),
        "revoked token": bearer(revoked),
        "token of an ended session": bearer(ended),
        "revoked key": {"X-Api-Key": key},
        "revoked user's key": {"X-Api-Key": own},
        "token of a revoked key": bearer(token),
        "refresh token as a token": bearer(create_refresh_token(connection, owner)),
        "key as a token": bearer(cast.credentials["admin key"]["X-Api-Key"]),
        "token as a key": {"X-Api-Key": cast.credentials["owner"]["Authorization"].removeprefix("Bearer ")},
    }


def digest(secret: str) -> bytes:
    """As the database has it."""
    return secret_digest(secret)


def fresh_bucket(connection: Connection, cast: Cast) -> str:
    """A bucket like ours, with the same people and an invitation, for a call that works only once."""
    bucket = create_bucket(connection, cast.ours.workspace, "fresh-bucket", owner_id=cast.users["owner"])
    for who in ("admin", "user"):
        join(connection, bucket, cast.users[who], who)
    invite(connection, bucket, "wombat-invited@example.com")
    return bucket


def names_of(connection: Connection, cast: Cast, caller: str, bucket: str) -> dict[str, str]:
    """What ``{…}`` of ``calls`` stands for, in a call of ``caller`` about ``bucket``."""
    user = cast.user_of(caller)
    return _Names(
        connection,
        cast.users[user],
        {
            "bucket_id": bucket,
            "key_id": cast.spare_key_id,
            "own_key_id": cast.own_keys[user],
            "spare_key_id": cast.spare_key_id,
            "uuid": SHARED_DEVICE,
            "device": "wombat-device",
            "name": EVENT,
            "event_name": EVENT,
            "host": "wombat-host",
            "public_id": cast.ours.public_id,
            "secret_id": cast.ours.secret_id,
            "today": datetime.now(UTC).date().isoformat(),
            "new_email": f"wombat-{secrets.token_hex(6)}@example.com",
            "invited_email": "wombat-invited@example.com",
            "heir_email": "wombat-heir@example.com",
            "owner_email": "wombat-owner@example.com",
            "user_email": "wombat-user@example.com",
            "own_email": f"wombat-{user}@example.com" if user not in OUTSIDE else f"{user}@example.com",
            "forged_refresh": new_secret("refresh"),
            "forged_access": new_secret("access"),
            "forged_key": new_secret("admin"),
            "forged_mail": new_secret("mail"),
            "forged_secret_id": secrets.token_hex(16),
        },
    )


class _Names(dict[str, str]):
    """Makes what can be used only once when it is asked for."""

    def __init__(self, connection: Connection, user_id: str, known: Mapping[str, str]) -> None:
        super().__init__(known)
        self._connection = connection
        self._user_id = user_id

    def __missing__(self, name: str) -> str:
        if name != "mail_token":
            raise KeyError(name)
        return mail_token(self._connection, self._user_id)
