"""A deployment with the cast of ``tenants``, calls to its doors, and what its database holds.

Real processes of the query API and the gateway, over sockets; no writer, so that nothing but a call changes
the database. Every answer is looked through for words that its caller must not see.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import psycopg

from tests.access_matrix.tenants import (
    OURS_OF_IT,
    SHARED_DEVICE,
    THEIRS_OF_IT,
    Cast,
    Connection,
    Tenant,
    events_of,
    names_of,
    new_cast,
)
from tests.support.processes import Process, Weir, deployed, wait_ready
from tests.support.stored import stored_in
from tests.support.topics import TopicNames

# Where rows of a tenant are: by bucket, user, workspace or a bucket's key. Every table of the schema is here.
_BUCKET, _USER = "bucket_id = ANY(%(buckets)s)", "user_id = ANY(%(users)s)"
_WORKSPACE = "workspace_id = ANY(%(workspaces)s)"
_KEY = "bucket_key IN (SELECT bucket_key FROM bucket_keys WHERE bucket_id = ANY(%(buckets)s))"
TENANTS_ROWS: dict[str, str] = {
    "workspaces": _WORKSPACE,
    "workspace_members": _WORKSPACE,
    "users": _USER,
    "buckets": _BUCKET,
    "bucket_keys": _BUCKET,
    "bucket_members": _BUCKET,
    "bucket_invitations": _BUCKET,
    "bucket_feedback": _BUCKET,
    "bucket_user_options": f"({_BUCKET} OR {_USER})",
    "api_keys": f"({_BUCKET} OR {_USER})",
    "refresh_tokens": _USER,
    "access_tokens": _USER,
    "mail_tokens": _USER,
    "devices": _BUCKET,
    "node_retirements": _BUCKET,
    "node_reports": _BUCKET,
    "fences": _BUCKET,
    "dead_letters": _BUCKET,
    "events": _KEY,
    "event_counts_minute": _KEY,
    "event_counts_hour": _KEY,
    "event_counts_day": _KEY,
    "device_counts_day": _KEY,
    "stream_names": _KEY,
}
# Built by maintenance, which does not run here.
EMPTY_HERE = {"device_counts_day", "stream_names"}
NOBODYS_TABLES = {"store_state", "partition_offsets", "late_hours", "alembic_version"}
_TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    " ORDER BY relname"
)
REVOKED_LATELY = "key revoked lately"
SUPERUSERS = ("root", "root's read key", "root's admin key")
_OUTSIDERS = ("stranger", "former", "newcomer", "stranger's admin key", "former's admin key")
_WITH_SECRET = ("admin", "owner", "wadmin", "wowner", "root")


@dataclass(frozen=True, slots=True)
class Answer:
    """``body``: of JSON its value, else its text."""

    status: int
    headers: Mapping[str, str]
    body: Any
    text: str

    @property
    def media_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]


@dataclass(slots=True)
class World:
    """The deployment. ``sent``: bucket id → events and reports that a door has accepted.

    ``revoked_at``: by the monotonic clock, when a key was ended that both doors had taken.
    """

    weir: Weir
    doors: Mapping[str, Process]
    connection: Connection
    cast: Cast
    tables: tuple[str, ...]
    sent: Counter[str] = field(default_factory=Counter)
    revoked_at: float = 0.0
    _lines: dict[str, http.client.HTTPConnection] = field(default_factory=dict)

    def ask(
        self,
        caller: str,
        door: str,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; fails when the answer holds what the caller must not see."""
        data = None if body is None else orjson.dumps(body)
        given = {**self.cast.credentials[caller], **(headers or {})}
        if data is not None:
            given["Content-Type"] = "application/json"
        answer = self._exchanged(door, method, target, data, given)
        asked = f"{target} {data.decode() if data else ''} {' '.join((headers or {}).values())}"
        self._look_through(answer, caller, asked)
        return answer

    def _exchanged(
        self, door: str, method: str, target: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        line = self._lines.get(door)
        if line is None:
            line = self._lines[door] = http.client.HTTPConnection(
                "127.0.0.1", self.doors[door].port, timeout=30
            )
        line.request(method, target, data, dict(headers))
        response = line.getresponse()
        raw = response.read()
        text = raw.decode()
        is_json = "json" in response.headers.get("Content-Type", "") and raw
        body = orjson.loads(raw) if is_json else text
        return Answer(response.status, dict(response.headers.items()), body, text)

    def _look_through(self, answer: Answer, caller: str, asked: str) -> None:
        text = answer.text + " ".join(answer.headers.values())
        cast = self.cast
        # A superuser sees a device's events wherever they are.
        if not (caller in SUPERUSERS and SHARED_DEVICE in asked):
            assert_nothing_of(cast.theirs, text, asked)
        if caller in _OUTSIDERS or caller.endswith(" of elsewhere"):
            assert_nothing_of(cast.ours, text, asked)
        if caller not in _WITH_SECRET:
            assert cast.ours.secret_id not in text or cast.ours.secret_id in asked, "the secret id shows"

    def digest(self, tenant: Tenant | None = None) -> dict[str, tuple[int, str]]:
        """By table: how many rows, and a digest of all of them; of one tenant, or of everybody."""
        parts = [
            f"SELECT '{table}', count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), ''))"
            f" FROM {table} AS t WHERE {TENANTS_ROWS.get(table, 'true') if tenant else 'true'}"
            for table in self.tables
            if tenant is None or table in TENANTS_ROWS
        ]
        named = {}
        if tenant is not None:
            named = {
                "buckets": [tenant.bucket],
                "users": list(tenant.people.values()),
                "workspaces": [tenant.workspace],
            }
        rows = self.connection.execute(" UNION ALL ".join(parts).encode(), named).fetchall()
        return {table: (count, digest) for table, count, digest in rows}

    def names(self, caller: str, bucket: str | None = None) -> dict[str, str]:
        """What stands for the names in braces."""
        return names_of(self.connection, self.cast, caller, bucket or self.cast.ours.bucket)

    def close(self) -> None:
        """Let go of the doors."""
        for line in self._lines.values():
            line.close()


def assert_nothing_of(tenant: Tenant, text: str, asked: str) -> None:
    """Fails when ``text`` holds words or ids of a tenant that ``asked`` did not bring."""
    words = {word for word in re.findall(rf"{tenant.word}[\w@.-]*", text) if word not in asked}
    ids = {
        one for one in (*tenant.ids, tenant.public_id, tenant.secret_id) if one in text and one not in asked
    }
    assert not words | ids, f"{words | ids} of another tenant in {text[:500]}"


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """``value`` with the names in braces replaced, however deep."""
    if isinstance(value, str):
        return value.format_map(names)
    if isinstance(value, Mapping):
        return {key: filled(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    return value


def filled_path(path: str, query: str, names: Mapping[str, str]) -> str:
    """The target of a request: each name quoted."""
    quoted = _Quoted(names)
    return path.format_map(quoted) + (f"?{query.format_map(quoted)}" if query else "")


class _Quoted(dict[str, str]):
    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, name: str) -> str:
        return quote(self._names[name], safe="%")


SETTINGS = {
    "WEIR_SECRET_KEY": base64.b64encode(bytes(range(32))).decode(),
    "WEIR_PLANS": '{"free": {}, "wide": {"trial_days": 7}}',
    "WEIR_RECEIPT_SECONDS": "0.2",
    "WEIR_LOG_LEVEL": "warning",
    # What is limited by address or account is tried elsewhere; here everybody comes from one address.
    **{
        f"WEIR_{name}_PER_MINUTE": "100000"
        for name in (
            "SIGN_INS",
            "ADDRESS_SIGN_INS",
            "TOKENS",
            "ADDRESS_TOKENS",
            "INVITATIONS",
            "KEYS",
        )
    },
}


@contextmanager
def new_world(kafka_bootstrap: str, dsn: str, topics: TopicNames, folder: Path) -> Iterator[World]:
    """The deployment, ready to be called."""
    settings = {**SETTINGS, "WEIR_MAIL_FOLDER": str(folder / "mail")}
    with (
        deployed(kafka_bootstrap, dsn, topics, folder, **settings) as weir,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        doors = {role: weir.start(role, ready=False) for role in ("api", "gateway")}
        cast = new_cast(connection)
        asyncio.run(_store(dsn, cast))
        found = [str(table) for (table,) in connection.execute(_TABLES).fetchall()]
        world = World(weir, doors, connection, cast, tuple(t for t in found if t not in NOBODYS_TABLES))
        for process in doors.values():
            wait_ready(process)
        with closing(world):
            for tenant in (cast.ours, cast.elsewhere, cast.theirs):
                _see_ids(world, tenant)
                _send(world, tenant)
            _revoke(world)
            yield world


def _see_ids(world: World, tenant: Tenant) -> None:
    """A bucket that was made without a secret id gets it when its owner looks."""
    headers = world.cast.credentials["root"]
    shown = world._exchanged("api", "GET", f"/api/bucket/{tenant.bucket}", None, headers).body
    tenant.public_id, tenant.secret_id = shown["public_id"], shown["secret_id"]
    assert len(tenant.secret_id) == 32


def _send(world: World, tenant: Tenant) -> None:
    """An event of each, for its receipt."""
    body = orjson.dumps({"name": f"{tenant.word}-boot"})
    headers = {"X-Api-Key": tenant.key, "Content-Type": "application/json"}
    answer = world._exchanged("gateway", "POST", "/v1/events", body, headers)
    assert answer.status == 202, answer.text
    tenant.receipt = answer.body["receipt"]
    world.sent[tenant.bucket] += 1


def _revoke(world: World) -> None:
    """Make a key by a call, use it at both doors, and end it by a call."""
    person, keys = world.cast.credentials["admin"], f"/v1/buckets/{world.cast.ours.bucket}/keys"
    sent = {**person, "Content-Type": "application/json"}
    made = world._exchanged("api", "POST", keys, b'{"scope": "admin"}', sent).body
    world.cast.credentials[REVOKED_LATELY] = {"X-Api-Key": made["secret"]}
    assert use(world) == (200, 202)
    world.sent[world.cast.ours.bucket] += 1
    assert world._exchanged("api", "DELETE", f"{keys}/{made['id']}", None, person).status == 200
    world.revoked_at = time.monotonic()


def use(world: World) -> tuple[int, int]:
    """What the key that was revoked lately gets at the query API and at the gateway."""
    read = world.ask(REVOKED_LATELY, "api", "GET", f"/api/bucket/{world.cast.ours.bucket}")
    sent = world.ask(REVOKED_LATELY, "gateway", "POST", "/v1/events", {"name": "wombat-boot"})
    return read.status, sent.status


async def _store(dsn: str, cast: Cast) -> None:
    now = datetime.now(UTC)
    shared = ((cast.ours, OURS_OF_IT), (cast.elsewhere, 0), (cast.theirs, THEIRS_OF_IT))
    async with stored_in(dsn) as stored:
        for tenant, count in shared:
            await stored.write(tenant.bucket, events_of(tenant, now, count))
