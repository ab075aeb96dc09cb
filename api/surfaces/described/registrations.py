"""Devices registered and nodes retired, described."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from api.http.openapi.operations import TOKEN_OR_KEY, Content, Operation, Parameter, Place, json_of
from api.http.openapi.refusals import BODY, IN_BUCKET, PROBLEM
from api.surfaces.described.steps import NAMED_BUCKET, RECEIPT, Shown, text
from api.surfaces.registrations import DeviceBody, DevicesQuestion
from schema.events import MAX_LABEL

TAG = "devices and nodes"


class DeviceAnswer(Shown):
    """A device. Its moments are null while it has only sent events."""

    id: str
    name: str
    attributes: dict[str, Any]
    registered_at: datetime | None
    updated_at: datetime | None


class DeviceWithEvents(DeviceAnswer):
    """A device, and how many events of each name it has sent."""

    events: dict[str, Annotated[int, Field(ge=0)]]


class DevicePage(Shown):
    """A page of devices, by id."""

    devices: list[DeviceAnswer]
    next: str | None = Field(description="`after` of the next page; null: this was the last.")


class RetiredNode(Shown):
    """A node that is out of the statistics."""

    ip: str
    host: str
    retired_at: datetime


class RetiredNodes(Shown):
    """Those that were retired."""

    retired: list[RetiredNode]


_DEVICE = text("device", "The device's id.", minLength=1, maxLength=MAX_LABEL)

OPERATIONS = (
    Operation(
        "GET",
        "/v1/devices",
        TAG,
        "The devices that a bucket knows",
        {200: json_of("A page of them.", DevicePage), **PROBLEM.refusals(400, *IN_BUCKET)},
        parameters=(NAMED_BUCKET, RECEIPT),
        query=DevicesQuestion,
        security=TOKEN_OR_KEY,
    ),
    Operation(
        "GET",
        "/v1/devices/{device}",
        TAG,
        "A device",
        {
            200: json_of("The device.", DeviceWithEvents, ["X-Weir-Incomplete"]),
            **PROBLEM.refusals(400, *IN_BUCKET),
        },
        parameters=(_DEVICE, NAMED_BUCKET, RECEIPT),
        security=TOKEN_OR_KEY,
    ),
    Operation(
        "PUT",
        "/v1/devices/{device}",
        TAG,
        "Register a device",
        {
            200: json_of("It was registered before; now it is this.", DeviceAnswer),
            201: json_of("It is registered.", DeviceAnswer),
            **PROBLEM.refusals(*IN_BUCKET, *BODY),
        },
        description="The body replaces all that was registered of it.",
        parameters=(_DEVICE, NAMED_BUCKET),
        bodies=(
            Content(DeviceBody, examples={"a door": {"name": "Front door", "attributes": {"floor": 1}}}),
        ),
        security=TOKEN_OR_KEY,
    ),
    Operation(
        "DELETE",
        "/v1/nodes/{host}",
        TAG,
        "Retire a node",
        {
            200: json_of("It is out of the statistics until it reports again.", RetiredNodes),
            **PROBLEM.refusals(400, *IN_BUCKET),
        },
        parameters=(
            text("host", "The node's host."),
            Parameter("ip", Place.QUERY, {"type": "string"}, "Only the node of this address."),
            NAMED_BUCKET,
        ),
        security=TOKEN_OR_KEY,
    ),
)
