"""Identifiers of another tenant, in every parameter that takes one, sent by people and keys of ours.

A bucket's id in a path is tried with every call of ``calls`` that has one; what stands here is all the rest.
Each is sent twice, once with another tenant's identifier and once with one of nobody's, and for each the
status is said by hand. ``alike``: the two answers differ in the identifier itself at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.access_matrix.calls import NAMED

NOBODYS_ID = "f" * 24
IT = "{it}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One identifier in one parameter.

    ``theirs``: what of the other tenant is sent, by the name that the test has for it; ``nobodys``: what is
    sent instead of it. ``status``: for theirs and for nobody's. ``{it}`` is where the identifier goes.
    """

    door: str
    method: str
    path: str
    parameter: str
    theirs: str
    nobodys: str
    status: tuple[int, int]
    alike: bool = True
    caller: str = "owner"
    query: str = ""
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False

    @property
    def name(self) -> str:
        """What tells it apart."""
        return f"{self.door} {self.method} {self.path} {self.parameter} {self.theirs} by {self.caller}"


_ONE = "/api/bucket/{bucket_id}"
_DATA = f"{_ONE}/data"
_KEYS = "/v1/buckets/{bucket_id}/keys"
_OTHER = {"X-Weir-Bucket": IT}


def _keys() -> list[Attempt]:
    found = []
    for theirs in ("key_id", "own_key_id"):
        for path in (_KEYS, "/v1/keys"):
            found += [
                Attempt("api", "DELETE", f"{path}/{{key_id}}", "key_id", theirs, NOBODYS_ID, (404, 404)),
                Attempt("api", "GET", path, "after", theirs, NOBODYS_ID, (400, 400), query="after={it}"),
            ]
    return found


def _members() -> list[Attempt]:
    def call(
        method: str, name: str, theirs: str, status: tuple[int, int], parameter: str = "email", **more: Any
    ) -> Attempt:
        body = {parameter: IT, **more.pop("body", {})}
        nobodys = more.pop("nobodys", "nobody@example.org")
        return Attempt("api", method, f"{_ONE}/{name}", parameter, theirs, nobodys, status, body=body, **more)

    return [
        # Who has an account becomes a member at once, as documented; nothing else of his shows.
        call("POST", "add_user", "email", (200, 200), alike=False, fresh=True),
        call("DELETE", "invitation", "invited_email", (400, 400)),
        call("POST", "remove_user", "email", (404, 404)),
        call("POST", "remove_user", "user_id", (400, 400), nobodys=NOBODYS_ID),
        call("POST", "promote_user", "email", (404, 404), body={"role": "admin"}),
        call("POST", "manage_notif", "email", (404, 404), body={"state": "none"}),
        call("POST", "transfer_ownership", "email", (200, 404), "new_owner", alike=False, fresh=True),
        call("POST", "transfer_ownership", "user_id", (400, 400), "new_owner", nobodys=NOBODYS_ID),
        Attempt(
            "api",
            "POST",
            "/api/bucket/create_classic",
            "workspace_id",
            "workspace_id",
            NOBODYS_ID,
            (403, 403),
            body={"name": "x", "workspace_id": IT},
        ),
    ]


def _accounts() -> list[Attempt]:
    def call(
        name: str, parameter: str, theirs: str, nobodys: str, status: tuple[int, int], body: Any, **more: Any
    ) -> Attempt:
        return Attempt(
            "api", "POST", f"/api/oauth/{name}", parameter, theirs, nobodys, status, body=body, **more
        )

    grant = {"grant_type": "client_credentials", "client_id": IT, "client_secret": "{ours_key}"}
    register = {"username": "x", "email": "{new_email}", "password": "x" * 12, "invitation": IT}
    return [
        call("token", "client_id", "key_id", NOBODYS_ID, (400, 400), grant),
        call("token", "client_id", "key_prefix", "weir_admin_000000", (400, 400), grant),
        call(
            "token",
            "email",
            "email",
            "nobody@example.org",
            (400, 400),
            {"grant_type": "password", "email": IT, "password": "wrong"},
        ),
        call(
            "token",
            "refresh_token",
            "user_id",
            NOBODYS_ID,
            (400, 400),
            {"grant_type": "refresh_token", "refresh_token": IT},
        ),
        call("revoke", "token", "key_id", NOBODYS_ID, (404, 404), {"token": IT}),
        call("revoke", "token", "key_prefix", "weir_admin_000000", (404, 404), {"token": IT}),
        call("register", "invitation", "invitation", "{forged_mail}", (400, 400), register),
        call("register", "invitation", "confirmation", "{forged_mail}", (400, 400), register),
        call("confirm", "token", "invitation", "{forged_mail}", (400, 400), {"token": IT}),
        call("confirm", "token", "confirmation", "{forged_mail}", (400, 400), {"token": IT}),
        # Of an account that nobody watches: a mail goes out, which is what the call is for.
        call("reset_password", "email", "bystander", "nobody@example.org", (200, 200), {"email": IT}),
    ]


def _bucket_events() -> list[Attempt]:
    def labels(path: str, method: str, status: int, **more: str) -> list[Attempt]:
        return [
            Attempt(
                "api",
                method,
                f"{_DATA}/{path}",
                parameter,
                theirs,
                "nothing",
                (status, status),
                body={**more, parameter: IT},
            )
            for parameter, theirs in (("app_name", "app"), ("server_name", "server"))
        ]

    found = [
        *labels("events", "POST", 200, event_name="{event_name}"),
        *labels("events/stats", "POST", 200, event_name="{event_name}"),
        *labels("eventsKeysByApp", "GET", 200),
        *labels("events/eventsKeysByApp", "GET", 200),
        *labels("events/delete_all", "DELETE", 400),
    ]
    for path in ("events", "events/stats"):
        body = {"event_name": IT}
        found.append(
            Attempt("api", "POST", f"{_DATA}/{path}", "event_name", "event_name", "x", (200, 200), body=body)
        )
    found += [
        Attempt(
            "api",
            "POST",
            f"{_DATA}/{path}",
            "X-Weir-Receipt",
            "receipt",
            "{our_receipt}",
            (503, 503),
            body={"event_name": "{event_name}"},
            headers={"X-Weir-Receipt": IT},
        )
        for path in ("events", "events/stats")
    ]
    return found


def _device_events() -> list[Attempt]:
    found = []
    for caller in ("owner", "admin key", "owner's admin key"):
        for prefix in ("", "/laas/api/v1"):
            path = f"{prefix}/devices/{{uuid}}/events/{{event_name}}"
            found += [
                Attempt("api", "GET", path, "uuid", "device", "nothing", (404, 404), caller=caller),
                Attempt("api", "GET", path, "event_name", "event_name", "x", (404, 404), caller=caller),
            ]
        asked: dict[str, dict[str, Any]] = {
            "GET": {"query": "device_id={it}&device_id={device}&stream=events"},
            "POST": {"body": {"device_id": [IT, "{device}"], "stream": "events"}},
        }
        for method, how in asked.items():
            found.append(
                Attempt(
                    "api",
                    method,
                    "/device_data",
                    "device_id",
                    "device",
                    "nothing",
                    (200, 200),
                    caller=caller,
                    **how,
                )
            )
    return found


def _devices() -> list[Attempt]:
    def call(
        method: str,
        path: str,
        parameter: str,
        theirs: str,
        nobodys: str,
        status: tuple[int, int],
        **more: Any,
    ) -> Attempt:
        headers = more.pop("headers", NAMED)
        return Attempt("api", method, path, parameter, theirs, nobodys, status, headers=headers, **more)

    found = [
        call("GET", "/v1/devices", "after", "device", "quetzal-x", (200, 200), query="after={it}"),
        call("GET", "/v1/devices/{device}", "device", "device", "nothing", (404, 404)),
        # Ids of devices are each bucket's own: this makes one of ours.
        call(
            "PUT",
            "/v1/devices/{device}",
            "device",
            "device",
            "nothing",
            (201, 201),
            alike=False,
            body={},
            fresh=True,
        ),
        call("DELETE", "/v1/nodes/{host}", "host", "host", "nothing", (404, 404)),
        call("DELETE", "/v1/nodes/{host}", "ip", "ip", "nothing", (404, 404), query="ip={it}"),
    ]
    for method, path in (
        ("GET", "/v1/devices"),
        ("GET", "/v1/devices/{device}"),
        ("PUT", "/v1/devices/{device}"),
        ("DELETE", "/v1/nodes/{host}"),
    ):
        for caller in ("owner", "admin key", "owner's admin key"):
            for theirs, status in (("bucket_id", 403), ("public_id", 404), ("workspace_id", 404)):
                found.append(
                    call(
                        method,
                        path,
                        "X-Weir-Bucket",
                        theirs,
                        NOBODYS_ID,
                        (status, 404),
                        alike=status == 404,
                        caller=caller,
                        headers=_OTHER,
                        body={} if method == "PUT" else None,
                    )
                )
    return found


_EVENT = {"name": "{event_name}"}


def _buckets_to_send_to() -> list[Attempt]:
    bodies: dict[str, Any] = {
        "/v1/events": _EVENT,
        "/v1/nodes": {"host": "{host}"},
        "/devices/{uuid}/events/{name}": {},
        "/laas/api/v1/devices/{uuid}/events/{name}": {},
        "/event_create": {"device_id": "{uuid}", "stream": "events"},
    }
    found = []
    for path, body in bodies.items():
        # A bucket's key opens that bucket; whether there is another of the name given, it does not learn.
        for caller, status in (("ingest key", (403, 403)), ("owner's ingest key", (403, 404))):
            found.append(
                Attempt(
                    "gateway",
                    "POST",
                    path,
                    "X-Weir-Bucket",
                    "bucket_id",
                    NOBODYS_ID,
                    status,
                    alike=status[0] == status[1],
                    caller=caller,
                    body=body,
                    headers=_OTHER,
                )
            )
    return found


def _texts_that_are_sent() -> list[Attempt]:
    """What is only a text to us lands in the sender's own bucket, whoever else has used it."""

    def sent(path: str, parameter: str, theirs: str, status: int, body: Any, **more: Any) -> Attempt:
        return Attempt(
            "gateway",
            "POST",
            path,
            parameter,
            theirs,
            "nothing",
            (status, status),
            alike=False,
            caller="ingest key",
            body=body,
            **more,
        )

    fields = {"id": "event_id", "device": "device", "app": "app", "server": "server", "name": "event_name"}
    found = [
        sent("/v1/events", parameter, theirs, 202, {**_EVENT, parameter: IT})
        for parameter, theirs in fields.items()
    ]
    found += [
        sent("/v1/events", "Idempotency-Key", "event_id", 202, _EVENT, headers={"Idempotency-Key": IT}),
        sent("/v1/nodes", "host", "host", 202, {"host": IT}),
        sent("/v1/nodes", "ip", "ip", 202, {"host": "{host}", "ip": IT}),
        sent("/event_create", "device_id", "device", 200, {"device_id": IT, "stream": "events"}),
        sent("/event_create", "stream", "event_name", 200, {"device_id": "{device}", "stream": IT}),
    ]
    for prefix in ("", "/laas/api/v1"):
        path = f"{prefix}/devices/{{uuid}}/events/{{name}}"
        found += [
            sent(path, "uuid", "device", 200, {}),
            sent(path, "name", "event_name", 200, {}),
        ]
    return found


def _agents() -> list[Attempt]:
    verify, link = "/api/node/verifyPM2", "/api/node/link"
    nobodys = "0" * 32
    return [
        Attempt(
            "gateway",
            "POST",
            verify,
            "public_id",
            "public_id",
            nobodys,
            (401, 401),
            body={"public_id": IT, "private_id": "{secret_id}"},
        ),
        Attempt(
            "gateway",
            "POST",
            verify,
            "private_id",
            "public_id",
            nobodys,
            (401, 401),
            body={"public_id": "{public_id}", "private_id": IT},
        ),
        Attempt(
            "gateway",
            "GET",
            link,
            "X-KM-PUBLIC",
            "public_id",
            nobodys,
            (401, 401),
            headers={"X-KM-PUBLIC": IT, "X-KM-SECRET": "{secret_id}"},
        ),
        Attempt(
            "gateway",
            "GET",
            link,
            "X-KM-SECRET",
            "public_id",
            nobodys,
            (401, 401),
            headers={"X-KM-PUBLIC": "{public_id}", "X-KM-SECRET": IT},
        ),
    ]


ATTEMPTS = (
    *_keys(),
    *_members(),
    *_accounts(),
    *_bucket_events(),
    *_device_events(),
    *_devices(),
    *_buckets_to_send_to(),
    *_texts_that_are_sent(),
    *_agents(),
)
