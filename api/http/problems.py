"""The one place where an error becomes an answer, and where a request gets its id.

``door`` makes the single middleware of an application: it takes the caller's X-Request-Id or makes
one, binds it to the log's context, and answers every error of ``schema.errors``, every refusal of
aiohttp's own (no such route, no such method) and every unexpected exception in the form of the
surface that was asked: RFC 9457 by default, another one by path prefix. Malformed HTTP never comes
this far; aiohttp answers it with 400 by itself.
"""

from __future__ import annotations

import itertools
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from schema.errors import Denied, Invalid, Overloaded, Unavailable, WeirError
from schema.metrics import DoorMetrics

log = structlog.get_logger(__name__)

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_LOGGED_FROM_STATUS = 500

_process_tag = secrets.token_hex(6)
_request_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a door has to say about a request that it did not serve, before it has a form.

    ``members``: further members of the body, for forms that have room for them.
    ``error``: what was raised, for a form that tells the kinds apart; None for aiohttp's own refusals.
    """

    status: int
    message: str
    request_id: str
    retry_after_seconds: float | None = None
    members: Mapping[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, at least one, and the challenge of a 401."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_seconds)))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="weir"'
        return headers


Form = Callable[[Refusal], web.Response]


def problem_form(refusal: Refusal) -> web.Response:
    """RFC 9457: application/problem+json."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.message,
        "request_id": refusal.request_id,
        **refusal.members,
    }
    return web.Response(
        body=orjson.dumps(body),
        status=refusal.status,
        content_type="application/problem+json",
        headers=refusal.headers,
    )


def message_form(refusal: Refusal) -> web.Response:
    """``{"msg": …}``, as the calls for signing in have it."""
    return web.Response(
        body=orjson.dumps({"msg": refusal.message}),
        status=refusal.status,
        content_type="application/json",
        headers=refusal.headers,
    )


def bucket_form(refusal: Refusal) -> web.Response:
    """The same, as the documents of the bucket surfaces have it: the database away is their 500."""
    away = isinstance(refusal.error, Unavailable)
    return message_form(replace(refusal, status=500) if away else refusal)


def response_status_form(refusal: Refusal) -> web.Response:
    """``{"responseStatus": …, "message": …}``, as the surface of a device's events has it."""
    return web.Response(
        body=orjson.dumps({"responseStatus": refusal.status, "message": refusal.message}),
        status=refusal.status,
        content_type="application/json",
        headers=refusal.headers,
    )


def success_form(refusal: Refusal) -> web.Response:
    """``{"success": false, "message": …}``, as the surface of node statistics has it."""
    return web.Response(
        body=orjson.dumps({"success": False, "message": refusal.message}),
        status=refusal.status,
        content_type="application/json",
        headers=refusal.headers,
    )


def refusal_of(error: BaseException, request_id: str) -> Refusal:
    """What ``error`` is to the caller. What is none of ours is a 500 that tells nothing of our insides."""
    match error:
        case Invalid() | Denied():
            return Refusal(error.status, error.message, request_id, members=error_members(error), error=error)
        case Overloaded():
            return Refusal(error.status, error.message, request_id, error.retry_after_seconds, error=error)
        case Unavailable():
            # The message may name hosts and drivers; it belongs into the log.
            message = "a server behind this door does not answer; try again"
            return Refusal(503, message, request_id, error.retry_after_seconds, error=error)
        case _:
            message = "an unexpected error; the log has it under this answer's X-Request-Id"
            return Refusal(500, message, request_id, error=error)


def error_members(error: WeirError) -> Mapping[str, Any]:
    """Members that an error brings for the body of its answer (an attribute ``members``), if any."""
    members = getattr(error, "members", None)
    return members if isinstance(members, Mapping) else {}


def take_request_id(request: web.Request) -> str:
    """The caller's X-Request-Id if it is short and printable, else one of ours; kept on the request."""
    given = request.headers.get("X-Request-Id")
    if given is None or _REQUEST_ID_FORM.fullmatch(given) is None:
        given = f"{_process_tag}-{next(_request_numbers):x}"
    request[REQUEST_ID] = given
    return given


def door(metrics: DoorMetrics, forms: Mapping[str, Form] | None = None) -> Middleware:
    """The application's only middleware. ``forms``: path prefix → form; the longest prefix that fits wins."""
    prefixes = sorted((forms or {}).items(), key=lambda entry: -len(entry[0]))
    counting = _Counting(metrics)

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = "none" if resource is None else resource.canonical
        return await _answered(request, handler, route, prefixes, counting)

    return answer


def direct_door(metrics: DoorMetrics, route: str, handler: Handler) -> Handler:
    """The same for one handler that is reached without routing (see ``serving``); ``route``: its path."""
    counting = _Counting(metrics)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _answered(request, handler, route, (), counting)

    return answer


async def _answered(
    request: web.Request,
    handler: Handler,
    route: str,
    prefixes: Sequence[tuple[str, Form]],
    counting: _Counting,
) -> web.StreamResponse:
    started_at = time.perf_counter()
    request_id = take_request_id(request)
    structlog.contextvars.bind_contextvars(request_id=request_id)
    try:
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 - the one place that answers whatever was raised
        form = next((form for prefix, form in prefixes if request.path.startswith(prefix)), problem_form)
        response = _refused(request, error, request_id, form)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
    counting.count(route, response.status, time.perf_counter() - started_at)
    return response


def _refused(request: web.Request, error: Exception, request_id: str, form: Form) -> web.Response:
    if isinstance(error, web.HTTPException):
        response = form(Refusal(error.status, error.reason, request_id))
        for name in ("Allow", "Location"):
            if name in error.headers:
                response.headers[name] = error.headers[name]
        return response
    refusal = refusal_of(error, request_id)
    if not isinstance(error, WeirError):
        log.error("unexpected error", method=request.method, path=request.path, exc_info=error)
    elif refusal.status >= _LOGGED_FROM_STATUS and isinstance(error, Unavailable):
        _unavailable_log.warn(request.path, error.message)
    return form(refusal)


class _SparseLog:
    """One line a second at most: an outage under load would otherwise write thousands."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._silent_until = 0.0
        self._left_out = 0

    def warn(self, path: str, reason: str) -> None:
        now = self._clock()
        if now < self._silent_until:
            self._left_out += 1
            return
        log.warning("unavailable", path=path, reason=reason, left_out_before=self._left_out)
        self._silent_until = now + 1.0
        self._left_out = 0


_unavailable_log = _SparseLog(time.monotonic)


class _Counting:
    """Counts answers by route and status, with the children of the metrics kept at hand."""

    def __init__(self, metrics: DoorMetrics) -> None:
        self._metrics = metrics
        self._requests: dict[tuple[str, int], Callable[[], None]] = {}
        self._seconds: dict[str, Callable[[float], None]] = {}

    def count(self, route: str, status: int, seconds: float) -> None:
        count_one = self._requests.get((route, status))
        if count_one is None:
            count_one = self._requests[route, status] = self._metrics.requests.labels(route, str(status)).inc
            self._seconds[route] = self._metrics.request_seconds.labels(route).observe
        count_one()
        self._seconds[route](seconds)
