"""``POST /api/node/verifyPM2``: an agent asks where to connect, at its start and once a minute.

It reads no status, only the body: one with ``endpoints`` makes it connect, one with ``error`` and without
``active`` makes it stop, anything else makes it ask again.
"""

from __future__ import annotations

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.http.bodies import Allowance, BodyLimits, parse_json, read_body
from api.http.problems import Refusal
from ingest.gateway.keys import Keys
from ingest.gateway.pm2.pairs import granted
from schema.errors import Denied, Invalid
from schema.events import first_problem
from schema.settings import GatewaySettings

PREFIX = "/api/node"
VERIFY_PATH = f"{PREFIX}/verifyPM2"
LINK_PATH = f"{PREFIX}/link"
# It lists the machine's processors, each with its counters.
_MAX_NESTING = 16


class VerifyModel(BaseModel):
    """What an agent says of itself; what we do not read is left aside."""

    model_config = ConfigDict(extra="ignore", strict=True, title="AgentVerification")

    public_id: str = Field(description="The bucket's public id.")
    private_id: str = Field(description="The bucket's secret id.")


class Handshake:
    """Answers agents that ask where to connect."""

    def __init__(self, settings: GatewaySettings, pairs: Keys, bodies: Allowance) -> None:
        self._settings = settings
        self._pairs = pairs
        self._bodies = bodies
        self._body_limits = BodyLimits(settings.max_event_bytes, settings.request_seconds)

    async def answer(self, request: web.Request) -> web.Response:
        """Where to connect. Raises Invalid, Denied (401), Overloaded, Unavailable."""
        body = await read_body(request, self._body_limits, self._bodies)
        try:
            asked = VerifyModel.model_validate(parse_json(body, max_nesting=_MAX_NESTING))
        except ValidationError as error:
            raise Invalid(first_problem(error)) from None
        await granted(self._pairs, asked.public_id, asked.private_id)
        web_url = self._settings.gateway_url.rstrip("/") or f"{request.scheme}://{request.host}"
        link_url = "ws" + web_url.removeprefix("http") + LINK_PATH
        answer = {
            "endpoints": {"ws": link_url, "web": web_url},
            "error": False,
            "active": True,
            "disabled": False,
            "pending": False,
            "new": False,
        }
        return web.Response(body=orjson.dumps(answer), content_type="application/json")


def agent_form(refusal: Refusal) -> web.Response:
    """A refusal that an agent understands: ``active`` false only where asking again is of no use."""
    body: dict[str, object] = {"error": True, "msg": refusal.message}
    if isinstance(refusal.error, Denied):
        body["active"] = False
    return web.Response(
        body=orjson.dumps(body),
        status=refusal.status,
        content_type="application/json",
        headers=refusal.headers,
    )
