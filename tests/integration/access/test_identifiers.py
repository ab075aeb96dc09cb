"""Identifiers of another tenant, in every parameter that takes one: nothing of it shows, nothing changes.

Every answer is looked through by ``World.ask`` for words of the other tenant; here statuses are compared, and
where the table says so the whole answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from tests.access_matrix.attempts import ATTEMPTS, NOBODYS_ID, Attempt
from tests.access_matrix.calls import CALLS, Call
from tests.access_matrix.tenants import fresh_bucket
from tests.access_matrix.world import Answer, World, filled, filled_path

_IN_PATHS = re.compile(r"{(\w+)}")
# A bucket's id in a path: what is sent, and its status.
BUCKET_IDS = {
    "bucket_id": 403,
    "public_id": 404,
    "workspace_id": 404,
    "key_id": 404,
    NOBODYS_ID: 404,
    "F" * 24: 404,
    "x": 404,
    "%00": 404,
}
TRIED_EVERYWHERE, NO_TENANTS = {"bucket_id"}, {"file"}
OF_A_BUCKET = [call for call in CALLS if "{bucket_id}" in call.path]


def test_every_name_in_a_path_is_tried() -> None:
    named = {
        (call.door, call.method, call.path, name)
        for call in CALLS
        for name in _IN_PATHS.findall(call.path)
        if name not in TRIED_EVERYWHERE | NO_TENANTS
    }
    tried = {(one.door, one.method, one.path, one.parameter) for one in ATTEMPTS}
    assert named <= tried
    rows = {(call.door, call.method, call.path) for call in CALLS}
    assert {(one.door, one.method, one.path) for one in ATTEMPTS} <= rows


def theirs_of(world: World) -> dict[str, str]:
    """Another tenant's identifiers, by the names that ``attempts`` uses."""
    tenant = world.cast.theirs
    return {
        "bucket_id": tenant.bucket,
        "workspace_id": tenant.workspace,
        "public_id": tenant.public_id,
        "user_id": tenant.people["user"],
        "email": "quetzal-user@example.com",
        "invited_email": "quetzal-invited@example.com",
        "bystander": "bystander@example.com",
        "key_id": tenant.key_id,
        "own_key_id": tenant.own_key_id,
        "key_prefix": tenant.key_prefix,
        "invitation": tenant.invitation,
        "confirmation": tenant.confirmation,
        "receipt": tenant.receipt,
        "device": "quetzal-device",
        "event_id": "quetzal-event-0-quetzal-device",
        "event_name": "quetzal-boot",
        "app": "quetzal-app",
        "server": "quetzal-server",
        "host": "quetzal-host",
        "ip": "quetzal-ip",
    }


@pytest.mark.parametrize("call", OF_A_BUCKET, ids=lambda call: call.name)
def test_buckets_of_others_and_of_nobody(world: World, call: Call) -> None:
    theirs, before = theirs_of(world), world.digest()
    by_keys = [
        (caller, sent) for caller in ("admin key", "owner's admin key") for sent in ("bucket_id", NOBODYS_ID)
    ]
    for caller, sent in [*(("owner", sent) for sent in BUCKET_IDS), *by_keys]:
        names = {**world.names(caller), "bucket_id": theirs.get(sent, sent)}
        target = filled_path(call.path, call.query, names)
        answer = world.ask(caller, call.door, call.method, target, filled(call.body, names))
        assert answer.status == BUCKET_IDS[sent], (caller, sent, answer.text)
    assert world.digest() == before


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_identifiers_of_others_and_of_nobody(world: World, attempt: Attempt) -> None:
    before = world.digest(world.cast.theirs)
    everything = world.digest()
    theirs = made(world, attempt, theirs_of(world)[attempt.theirs])
    nobodys = made(world, attempt, attempt.nobodys)
    assert (theirs[1].status, nobodys[1].status) == attempt.status, (theirs[1].text, nobodys[1].text)
    if attempt.alike:
        assert likened(*theirs) == likened(*nobodys)
    assert world.digest(world.cast.theirs) == before
    if min(attempt.status) >= 400:
        assert world.digest() == everything


def made(world: World, attempt: Attempt, identifier: str) -> tuple[str, Answer]:
    """The call with this identifier in its place, and what was answered."""
    bucket = fresh_bucket(world.connection, world.cast) if attempt.fresh else None
    names = world.names(attempt.caller, bucket)
    names["ours_key"] = world.cast.credentials["admin key"]["X-Api-Key"]
    names["our_receipt"] = world.cast.ours.receipt
    identifier = names["it"] = identifier.format_map(names)
    if "{" + attempt.parameter + "}" in attempt.path:
        names[attempt.parameter] = identifier
    target = filled_path(attempt.path, attempt.query, names)
    body: Any = filled(attempt.body, names)
    headers: Mapping[str, str] = filled(attempt.headers, names)
    answer = world.ask(attempt.caller, attempt.door, attempt.method, target, body, headers)
    if attempt.door == "gateway" and answer.status < 300:
        world.sent[world.cast.ours.bucket] += 1
    return identifier, answer


def likened(identifier: str, answer: Answer) -> Any:
    """What was answered, without the identifier itself and without what differs from call to call."""
    text = answer.text.replace(identifier, "it")
    body = orjson.loads(text) if text else None
    if isinstance(body, dict):
        body.pop("request_id", None)
    varying = ("Date", "X-Request-Id", "Content-Length")
    return body, {name: value for name, value in answer.headers.items() if name not in varying}
