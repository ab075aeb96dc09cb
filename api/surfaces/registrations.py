"""Registering devices, retiring nodes: ``/v1/devices`` and ``/v1/nodes/{host}``. docs/devices.md has it all.

Neighbours: ``api.tenancy.devices`` writes, ``query.devices`` reads. Everything happens in one bucket: that of
the key, or the one that ``X-Weir-Bucket`` names. Refusals are RFC 9457 problems.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.http.authentication import BucketAccess, authorize, identify
from api.surfaces.answers import await_receipt, json_answer
from api.surfaces.parameters import Label, Question, asked, whole, whole_schema
from api.surfaces.requests import Inbox, checked
from api.tenancy.devices import register_device, retire_nodes
from query.devices import Device, known_device, known_devices
from query.execute import Reader
from query.request import Scope, checked_label
from schema.connections import Pool
from schema.errors import Denied, Invalid, TooLarge
from schema.events import MAX_LABEL
from schema.identities import Action
from schema.metrics import ApiMetrics
from schema.settings import ApiSettings

DEFAULT_DEVICES = 100
MAX_DEVICES = 1000
MAX_ATTRIBUTES_BYTES = 64 * 1024


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds the character U+0000, which cannot be stored; remove it")
    return text


class DeviceBody(BaseModel):
    """What ``PUT /v1/devices/{id}`` takes; what is left out is empty afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, title="DeviceRegistration")

    name: Annotated[str, Field(max_length=MAX_LABEL), AfterValidator(_storable)] = Field(
        "", description="What people call it."
    )
    attributes: dict[str, Any] = Field(default_factory=dict, description="What else is to be known of it.")


class DevicesQuestion(Question):
    """The query string of ``GET /v1/devices``."""

    limit: Annotated[int, whole(DEFAULT_DEVICES, 1, MAX_DEVICES), whole_schema(1, MAX_DEVICES)] = Field(
        DEFAULT_DEVICES, description="Devices at most."
    )
    after: Label = Field(None, description="Where the page begins: `next` of the one before.")


@dataclass(frozen=True, slots=True)
class Registrations:
    """What the calls are made of."""

    settings: ApiSettings
    primary: Pool
    reader: Reader
    inbox: Inbox
    metrics: ApiMetrics

    def add_routes(self, app: web.Application) -> None:
        """Serve the four calls."""
        app.router.add_get("/v1/devices", self.page, allow_head=False)
        app.router.add_get("/v1/devices/{device}", self.show, allow_head=False)
        app.router.add_put("/v1/devices/{device}", self.register)
        app.router.add_delete("/v1/nodes/{host}", self.retire)

    async def register(self, request: web.Request) -> web.Response:
        """``PUT``: 201 when it was not registered, 200 when it was; the body replaces all of it."""
        access = await self._access(request, Action.WRITE)
        device = checked_label(request.match_info["device"], "id")
        wanted = checked(DeviceBody, await self.inbox.object_in(request))
        attributes = orjson.dumps(wanted.attributes)
        if len(attributes) > MAX_ATTRIBUTES_BYTES:
            raise TooLarge(f"attributes: larger than {MAX_ATTRIBUTES_BYTES} bytes")
        made = await register_device(
            self.primary,
            access.bucket_id,
            device,
            wanted.name,
            attributes.decode(),
            acquire_seconds=self.settings.database_connect_seconds,
        )
        registered = Device(device, wanted.name, attributes.decode(), made.registered_at, made.updated_at)
        return _json(_shown(registered), status=201 if made.fresh else 200)

    async def show(self, request: web.Request) -> web.Response:
        """``GET /v1/devices/{id}``: what is registered, and how many events of each name it sent."""
        access = await self._access(request, Action.READ)
        try:
            device = checked_label(request.match_info["device"], "id")
        except Invalid:
            raise _unknown_device() from None
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        with self.metrics.query_seconds.labels("device").time():
            found = await self.reader.in_snapshot(
                lambda connection: known_device(connection, _scope(access), access.bucket_id, device)
            )
        if found is None:
            raise _unknown_device()
        shown, sent = found
        body = {**_shown(shown), "events": sent.events}
        return json_answer(body, left_out=sent.left_out, cut=None if sent.complete else "names")

    async def page(self, request: web.Request) -> web.Response:
        """``GET /v1/devices``: a page of the devices that the bucket knows, and where the next one begins."""
        access = await self._access(request, Action.READ)
        question = asked(DevicesQuestion, request.query)
        limit, after = question.limit, question.after or ""
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        with self.metrics.query_seconds.labels("devices").time():
            found = await self.reader.in_snapshot(
                lambda connection: known_devices(
                    connection, _scope(access), access.bucket_id, after, limit + 1
                )
            )
        more = found[limit - 1].device if len(found) > limit else None
        return _json({"devices": [_shown(device) for device in found[:limit]], "next": more})

    async def retire(self, request: web.Request) -> web.Response:
        """``DELETE /v1/nodes/{host}``: out of the statistics from now on, until it reports again."""
        access = await self._access(request, Action.DELETE_EVENTS)
        host, ip = request.match_info["host"], request.query.get("ip")
        retired = []
        if "\x00" not in f"{host}{ip}":
            retired = await retire_nodes(
                self.primary,
                access.bucket_id,
                host,
                ip,
                acquire_seconds=self.settings.database_connect_seconds,
            )
        if not retired:
            raise Denied("no node of this host and ip has ever reported to this bucket", status=404)
        nodes = [
            {"ip": node.ip, "host": node.host, "retired_at": _moment(node.retired_at)} for node in retired
        ]
        return _json({"retired": nodes})

    async def _access(self, request: web.Request, action: Action) -> BucketAccess:
        seconds = self.settings.database_connect_seconds
        bucket_id = request.headers.get("X-Weir-Bucket", "").strip()
        if not bucket_id:
            caller = await identify(self.primary, request.headers, acquire_seconds=seconds)
            if caller.key_bucket_id is None:
                raise Invalid("X-Weir-Bucket: is required with a user's key or token; the bucket's id")
            bucket_id = caller.key_bucket_id
        return await authorize(self.primary, request.headers, bucket_id, action, acquire_seconds=seconds)


def _scope(access: BucketAccess) -> Scope:
    return Scope((access.bucket_key,), access.visible_from)


def _unknown_device() -> Denied:
    return Denied("no device of this id is registered in this bucket, or has sent an event to it", status=404)


def _shown(device: Device) -> dict[str, Any]:
    return {
        "id": device.device,
        "name": device.name,
        # The database's own JSON text, as it is.
        "attributes": orjson.Fragment(device.attributes),
        "registered_at": _moment(device.registered_at),
        "updated_at": _moment(device.updated_at),
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
