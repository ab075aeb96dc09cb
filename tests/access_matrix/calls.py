"""The rows: every route of both doors, the right that it asks for, and what it answers to who has it.

In paths, bodies and headers ``{…}`` stands for a name that ``world`` knows the value of. The order is that in
which the calls are made: what takes away what others read comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Form(Enum):
    """The body of a refusal."""

    MSG = "`{msg}`"
    DEVICE = "`{responseStatus, message}`"
    STATS = "`{success, message}`"
    PROBLEM = "problem"
    AGENT = "`{error, msg}`"


@dataclass(frozen=True, slots=True)
class Call:
    """One row.

    ``path``: the route as the router has it. ``right``: of ``rights``. ``gives``: the answer to who has it:
    the members of its JSON object, ``[]`` for an array, or the media type of what is no JSON. ``fresh``: each
    successful call has a bucket of its own, since it works only once. ``query``, ``body``, ``headers``: what
    is sent; ``file``: of a page, by its name.
    """

    door: str
    method: str
    path: str
    right: str
    form: Form
    gives: str
    status: int = 200
    case: str = ""
    query: str = ""
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False
    file: str = ""

    @property
    def name(self) -> str:
        """What tells it apart."""
        return f"{self.door} {self.method} {self.path}" + (f", {self.case}" if self.case else "")


NAMED = {"X-Weir-Bucket": "{bucket_id}"}
BUCKET = (
    "_id name comment app_url public_id configuration plan node credits payment created_at workspace_id role "
    "user_options"
)
KEY = "id prefix name scope bucket_id created_at revoked_at"
DEVICE = "id name attributes registered_at updated_at"
HTML = "text/html"
STYLE = "text/css"
DESCRIPTION = "openapi info servers tags paths components"
PROMETHEUS = "text/plain"
RECEIPT = "accepted rejected receipt"
ENDPOINTS = "endpoints error active disabled pending new"
_ONE = "/api/bucket/{bucket_id}"
_DATA = f"{_ONE}/data"


# Pages and files that everybody gets: path, what it gives, and where ``{file}`` stands, one of them.
_EVERYWHERE = (
    ("/docs", HTML, ""),
    ("/docs/{file}", STYLE, "page.css"),
    ("/openapi.json", DESCRIPTION, ""),
    ("/healthz", "alive", ""),
    ("/metrics", PROMETHEUS, ""),
)
_PAGES = {
    "api": (
        *_EVERYWHERE,
        ("/", HTML, ""),
        ("/watch", HTML, ""),
        ("/watch/{file}", STYLE, "chart.css"),
        ("/readyz", "ready missing degraded edition revision", ""),
    ),
    "gateway": (*_EVERYWHERE, ("/readyz", "ready missing degraded", "")),
}


def _pages() -> list[Call]:
    return [
        Call(door, method, path, "open", Form.PROBLEM, gives if method == "GET" else "", file=file)
        for door, pages in _PAGES.items()
        for path, gives, file in pages
        for method in ("GET", "HEAD")
    ]


def _oauth() -> list[Call]:
    path = "/api/oauth"

    def call(name: str, right: str, status: int, gives: str, body: Any, case: str = "") -> Call:
        return Call("api", "POST", f"{path}/{name}", right, Form.MSG, gives, status, case=case, body=body)

    return [
        call(
            "token",
            "open",
            400,
            "msg",
            {"grant_type": "refresh_token", "refresh_token": "{forged_refresh}"},
            "a refresh token that is none",
        ),
        call(
            "token",
            "open",
            400,
            "msg",
            {
                "grant_type": "client_credentials",
                "client_id": "{spare_key_id}",
                "client_secret": "{forged_key}",
            },
            "a key that is none",
        ),
        call("revoke", "open", 404, "msg", {"token": "{forged_access}"}, "a token that is none"),
        call(
            "register",
            "open",
            400,
            "msg",
            {"username": "x", "email": "{new_email}", "password": "x" * 12, "invitation": "{forged_mail}"},
            "an invitation that is none",
        ),
        call("reset_password", "open", 200, "msg", {"email": "nobody@wombat.example"}, "an unknown address"),
        call("reset_password", "open", 400, "msg", {"token": "{forged_mail}", "password": "x"}, "by token"),
        call("confirm", "person", 200, "confirmed buckets", {"token": "{mail_token}"}),
    ]


def _buckets() -> list[Call]:
    def call(
        method: str,
        path: str,
        right: str,
        gives: str,
        body: Any = None,
        *,
        case: str = "",
        fresh: bool = False,
    ) -> Call:
        sent = {} if body is None else body
        return Call("api", method, path, right, Form.MSG, gives, case=case, body=sent, fresh=fresh)

    return [
        call("GET", "/api/bucket", "list", "[]"),
        call("GET", "/api/bucket/", "list", "[]"),
        call("POST", "/api/bucket/create_classic", "person", "bucket", {"name": "made in the matrix"}),
        call("GET", _ONE, "read", BUCKET),
        call("PUT", _ONE, "manage", BUCKET, {"comment": "wombat-comment"}),
        call("GET", f"{_ONE}/current_role", "belong", "role"),
        call("GET", f"{_ONE}/users_authorized", "belong", "[]"),
        call("POST", f"{_ONE}/add_user", "manage", "invitations", {"email": "{new_email}"}),
        call(
            "DELETE", f"{_ONE}/invitation", "manage", "invitations", {"email": "{invited_email}"}, fresh=True
        ),
        call("POST", f"{_ONE}/remove_user", "manage", "[]", {"email": "{user_email}"}, fresh=True),
        call("POST", f"{_ONE}/promote_user", "manage", "[]", {"email": "{user_email}", "role": "user"}),
        call(
            "POST",
            f"{_ONE}/manage_notif",
            "manage",
            "[]",
            {"email": "{owner_email}", "state": "email"},
            case="another's",
        ),
        call(
            "POST",
            f"{_ONE}/manage_notif",
            "of-itself",
            "[]",
            {"email": "{own_email}", "state": "email"},
            case="one's own",
        ),
        call(
            "POST",
            f"{_ONE}/transfer_ownership",
            "own",
            BUCKET,
            {"new_owner": "{heir_email}"},
            fresh=True,
        ),
        call("GET", f"{_ONE}/meta_servers", "read", "[]"),
        call("PUT", f"{_ONE}/feedback", "belong", "feedback", {"feedback": "good"}),
        call("PUT", f"{_ONE}/user_options", "belong", "bucket", {"options": {"colour": "red"}}),
        call("PUT", f"{_ONE}/start_trial", "own", "duration plan", fresh=True),
        call("POST", f"{_ONE}/upgrade", "own", "bucket subscription", {"plan": "wide"}, fresh=True),
        call("GET", f"{_ONE}/subscription", "belong", "_id plan started_at"),
        call("GET", f"{_ONE}/payment/charges", "belong", "[]"),
    ]


def _keys() -> list[Call]:
    def call(
        method: str, path: str, right: str, gives: str, status: int = 200, body: Any = None, query: str = ""
    ) -> Call:
        return Call("api", method, path, right, Form.PROBLEM, gives, status, query=query, body=body)

    bucket, own = "/v1/buckets/{bucket_id}/keys", "/v1/keys"
    return [
        call("POST", bucket, "manage", f"{KEY} secret", 201, {"scope": "read"}),
        call("GET", bucket, "manage", "keys next"),
        call("DELETE", f"{bucket}/{{key_id}}", "manage", KEY),
        call("POST", own, "person", f"{KEY} secret", 201, {"scope": "admin"}),
        call("GET", own, "person", "keys next"),
        call("DELETE", f"{own}/{{key_id}}", "person", KEY),
    ]


def _reading() -> list[Call]:
    events = {"event_name": "{event_name}"}
    stream = {"device_id": "{uuid}", "stream": "events"}
    calls = [
        Call("api", "POST", f"{_DATA}/events", "read", Form.MSG, "[]", body=events),
        Call("api", "POST", f"{_DATA}/events/stats", "read", Form.MSG, "[]", body=events),
        Call("api", "GET", f"{_DATA}/eventsKeysByApp", "read", Form.MSG, "[]", body={}),
        Call("api", "GET", f"{_DATA}/events/eventsKeysByApp", "read", Form.MSG, "[]", body={}),
    ]
    calls += [
        Call("api", "GET", f"{prefix}/devices/{{uuid}}/events/{{event_name}}", "journal", Form.DEVICE, "[]")
        for prefix in ("", "/laas/api/v1")
    ]
    calls += [
        Call(
            "api",
            "GET",
            "/device_data",
            "streams",
            Form.PROBLEM,
            "data",
            query="device_id={uuid}&stream=events",
        ),
        Call("api", "POST", "/device_data", "streams", Form.PROBLEM, "data", body=stream),
        Call(
            "api",
            "POST",
            "/bucket/{bucket_id}/stats",
            "read",
            Form.STATS,
            "success nodeStats",
            body={"day": "{today}"},
        ),
    ]
    return calls


def _devices() -> list[Call]:
    def call(
        method: str,
        path: str,
        right: str,
        gives: str,
        *,
        case: str = "",
        headers: Mapping[str, str] = NAMED,
        body: Any = None,
    ) -> Call:
        return Call("api", method, path, right, Form.PROBLEM, gives, case=case, headers=headers, body=body)

    return [
        call("GET", "/v1/devices", "read", "devices next"),
        call("GET", "/v1/devices", "unnamed-r", "devices next", case="no bucket named", headers={}),
        call("GET", "/v1/devices/{device}", "read", f"{DEVICE} events"),
        call("PUT", "/v1/devices/{device}", "write", DEVICE, body={"name": "wombat-door"}),
        call("DELETE", "/v1/nodes/{host}", "delete", "retired"),
    ]


def _sending() -> list[Call]:
    event = {"name": "{event_name}", "device": "{device}"}

    def call(
        path: str,
        gives: str,
        status: int,
        body: Any,
        *,
        form: Form = Form.PROBLEM,
        right: str = "send",
        case: str = "",
        headers: Mapping[str, str] = NAMED,
    ) -> Call:
        return Call("gateway", "POST", path, right, form, gives, status, case, "", body, headers)

    return [
        call("/v1/events", RECEIPT, 202, event),
        call("/v1/events", RECEIPT, 202, event, right="unnamed-s", case="no bucket named", headers={}),
        call("/v1/nodes", RECEIPT, 202, {"host": "{host}"}),
        call("/devices/{uuid}/events/{name}", "responseStatus message", 200, {"a": 1}, form=Form.DEVICE),
        call(
            "/laas/api/v1/devices/{uuid}/events/{name}",
            "responseStatus message",
            200,
            {"a": 1},
            form=Form.DEVICE,
        ),
        call("/event_create", "[]", 200, {"device_id": "{uuid}", "stream": "events", "event_data": {}}),
    ]


def _agents() -> list[Call]:
    """An agent shows its bucket's pair of ids; what else it sends opens nothing, and closes nothing."""
    verify, link = "/api/node/verifyPM2", "/api/node/link"

    def pair(secret: str) -> dict[str, str]:
        return {"public_id": "{public_id}", "private_id": secret}

    def shown(secret: str) -> dict[str, str]:
        return {"X-KM-PUBLIC": "{public_id}", "X-KM-SECRET": secret}

    def call(
        method: str,
        path: str,
        gives: str,
        status: int,
        case: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Call:
        return Call("gateway", method, path, "open", Form.AGENT, gives, status, case, "", body, headers or {})

    return [
        call("POST", verify, ENDPOINTS, 200, "the bucket's pair", pair("{secret_id}")),
        call("POST", verify, "error msg active", 401, "a wrong secret id", pair("{forged_secret_id}")),
        call("GET", link, "error msg", 426, "the bucket's pair, no WebSocket", headers=shown("{secret_id}")),
        call(
            "GET",
            link,
            "error msg active",
            401,
            "a wrong secret id",
            headers=shown("{forged_secret_id}"),
        ),
        call("GET", link, "error msg active", 401, "no pair"),
    ]


def _live() -> list[Call]:
    """Over its WebSocket each bucket is asked for by itself: ``tests/integration/access/test_live.py``."""
    problem = "type title status detail request_id"
    return [Call("api", "GET", "/primus", "connect", Form.PROBLEM, problem, 426, "no WebSocket")]


def _ends() -> list[Call]:
    return [
        Call("api", "DELETE", f"{_DATA}/events/delete_all", "delete", Form.MSG, "[]", body={}),
        Call("api", "DELETE", _ONE, "own", Form.MSG, BUCKET, body={}, fresh=True),
    ]


CALLS = (
    *_pages(),
    *_oauth(),
    *_buckets(),
    *_keys(),
    *_reading(),
    *_devices(),
    *_sending(),
    *_agents(),
    *_live(),
    *_ends(),
)
