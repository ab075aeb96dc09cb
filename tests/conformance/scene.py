"""Both doors as real processes, with people, buckets and events to find."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from api.tenancy.administration import (
    administration,
    create_access_token,
    create_api_key,
    create_bucket,
    create_user,
    create_workspace,
)
from schema.identities import Scope
from tests.support.processes import Process, call, deployed, wait_ready
from tests.support.topics import TopicNames

# Nobody is kept out for trying often: what is looked for lies behind the limits.
_OFTEN = "100000000"
_LIMITS = (
    "SIGN_INS_PER_MINUTE",
    "ADDRESS_SIGN_INS_PER_MINUTE",
    "TOKENS_PER_MINUTE",
    "ADDRESS_TOKENS_PER_MINUTE",
    "INVITATIONS_PER_MINUTE",
    "KEYS_PER_MINUTE",
)
_TO_DELETE = 50
DEVICE, NAME, HOST, STREAM = "d1", "hello", "node-1", "events"


@dataclass(frozen=True, slots=True)
class Scene:
    """``bucket_id``: the one with events; ``spare``: buckets that may be deleted.

    ``token``: of the buckets' owner; ``spare_token``: another, which may be revoked; ``key``: of the bucket,
    with the scope admin; ``pair``: its public and secret id.
    """

    api: Process
    gateway: Process
    bucket_id: str
    spare: list[str]
    token: str
    spare_token: str
    key: str
    pair: tuple[str, str]


@contextlib.contextmanager
def scene(kafka_bootstrap: str, database_dsn: str, topics: TopicNames, folder: Path) -> Iterator[Scene]:
    """The processes run while the block does."""
    settings = {f"WEIR_{name}": _OFTEN for name in _LIMITS}
    settings["WEIR_MAIL_FOLDER"] = str(folder / "mail")
    settings["WEIR_SECRET_KEY"] = base64.b64encode(os.urandom(32)).decode()
    with deployed(kafka_bootstrap, database_dsn, topics, folder, **settings) as weir:
        writer, gateway, api = (weir.start(role, ready=False) for role in ("writer", "gateway", "api"))
        with administration(database_dsn) as connection:
            workspace = create_workspace(connection, "conformance")
            owner = create_user(connection, "owner@example.com")
            create_user(connection, "friend@example.com")
            bucket_id = create_bucket(connection, workspace, "first", owner_id=owner)
            spare = [
                create_bucket(connection, workspace, f"spare {number}", owner_id=owner)
                for number in range(_TO_DELETE)
            ]
            token, spare_token = (
                create_access_token(connection, owner, lifetime=timedelta(hours=6)) for _ in range(2)
            )
            _, key = create_api_key(connection, bucket_id, Scope.ADMIN)
        for process in (writer, gateway, api):
            wait_ready(process)
        status, bucket = call(api, "GET", f"/api/bucket/{bucket_id}", headers=bearer(token))
        assert status == 200, bucket
        assert isinstance(bucket, dict)
        pair = (bucket["public_id"], bucket["secret_id"])
        found = Scene(api, gateway, bucket_id, spare, token, spare_token, key, pair)
        _fill(found)
        yield found


def bearer(token: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token}"}


def _fill(scene: Scene) -> None:
    """Events and a node report, stored; a registered device."""
    key = {"X-Api-Key": scene.key}
    events = [
        {"name": NAME, "device": DEVICE, "app": "shop", "server": HOST, "data": {"amount": n}}
        for n in range(3)
    ]
    for path, body in (("/v1/nodes", {"host": HOST, "ip": "192.0.2.1"}), ("/v1/events", events)):
        status, answer = call(scene.gateway, "POST", path, body, key)
        assert status == 202, answer
        assert isinstance(answer, dict)
        waiting = {**bearer(scene.token), "X-Weir-Receipt": answer["receipt"]}
        status, found = call(scene.api, "GET", f"/api/bucket/{scene.bucket_id}/meta_servers", headers=waiting)
        assert status == 200, found
    status, device = call(scene.api, "PUT", f"/v1/devices/{DEVICE}", {"name": "door"}, key)
    assert status == 201, device
