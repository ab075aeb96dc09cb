"""The routes of the gateway: which dialect reads what, and what it answers.

A media type of ``POST /v1/events`` is looked up once; whatever stands in no table is refused by the plain
reader. The steps of a request are ``intake``'s.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.bodies import Allowance
from api.http.openapi.pages import add_description_routes
from api.http.origins import Origins
from api.http.problems import direct_door, door, response_status_form
from ingest.gateway.admission import Admitted, Terms, admit_events, admit_node_reports
from ingest.gateway.described import ABOUT, OPERATIONS
from ingest.gateway.dialects.cloud_events import (
    BINARY_MARK,
    CLOUD_EVENT,
    CLOUD_EVENTS,
    CloudEvents,
    read_binary,
)
from ingest.gateway.dialects.devices import read_device_event
from ingest.gateway.dialects.event_create import read_event_create
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.intake import Intake, Sent, Station, batch_reply, device_reply, event_create_reply
from ingest.gateway.keys import Keys
from ingest.gateway.paths import DEVICE_PREFIXES, EVENT_CREATE_PATH, EVENTS_PATH, NODES_PATH
from ingest.gateway.pm2.handshake import LINK_PATH, PREFIX, VERIFY_PATH, Handshake, agent_form
from ingest.gateway.pm2.links import Links

_CLOUD_EVENTS = CloudEvents()
_OF_ANOTHER_FORM = {CLOUD_EVENT: _CLOUD_EVENTS, CLOUD_EVENTS: _CLOUD_EVENTS}


def new_app(
    station: Station, pairs: Keys, links: Links
) -> tuple[web.Application, dict[tuple[str, str], Handler]]:
    """The application, and the handler that is reached without routing (see ``api.http.serving``).

    ``pairs``: the buckets' public and secret ids, as ``pm2.pairs`` reads them; ``links``: of agents.
    Its health routes are added by the process.
    """
    forms = {**dict.fromkeys(DEVICE_PREFIXES, response_status_form), PREFIX: agent_form}
    origins = Origins(station.settings.gateway_origins, "POST")
    middlewares = [door(station.door_metrics, forms)]
    if origins:
        middlewares.insert(0, origins.middleware)
    app = web.Application(middlewares=middlewares)
    bodies = Allowance(station.settings.body_bytes)
    dialects = _Dialects(station)
    events = Intake(station, "event", dialects.events, batch_reply, bodies)
    nodes = Intake(station, "node_report", dialects.nodes, batch_reply, bodies)
    device = Intake(station, "event", dialects.device_event, device_reply, bodies)
    event_create = Intake(station, "event", dialects.event_create, event_create_reply, bodies)
    app.router.add_post(EVENTS_PATH, events.answer)
    app.router.add_post(NODES_PATH, nodes.answer)
    for prefix in DEVICE_PREFIXES:
        app.router.add_post(f"{prefix}/{{uuid}}/events/{{name}}", device.answer)
    app.router.add_post(EVENT_CREATE_PATH, event_create.answer)
    app.router.add_post(VERIFY_PATH, Handshake(station.settings, pairs, bodies).answer)
    app.router.add_get(LINK_PATH, links.answer, allow_head=False)
    add_description_routes(app, ABOUT, OPERATIONS)
    direct = direct_door(station.door_metrics, EVENTS_PATH, events.answer)
    return app, {("POST", EVENTS_PATH): origins.around(direct) if origins else direct}


class _Dialects:
    """From what was sent to what may be published, one function for each dialect."""

    def __init__(self, station: Station) -> None:
        self._limits = station.settings
        self._producing = station.producing

    def events(self, sent: Sent, terms: Terms, bucket: bytes) -> Admitted:
        request, body, kind = sent
        reader = _OF_ANOTHER_FORM.get(kind)
        if reader is not None:
            batch = reader.read(body, kind, self._limits)
        elif BINARY_MARK in request.headers:
            batch = read_binary(request.headers, body, self._limits)
        else:
            batch = EVENTS.read(body, kind, self._limits)
        return admit_events(batch, terms, bucket, self._producing.partitions)

    def nodes(self, sent: Sent, terms: Terms, bucket: bytes) -> Admitted:
        batch = NODE_REPORTS.read(sent.body, sent.media_type, self._limits)
        return admit_node_reports(batch, terms, bucket, self._producing.partitions)

    def device_event(self, sent: Sent, terms: Terms, bucket: bytes) -> Admitted:
        parts = sent.request.match_info
        given = sent.request.headers.get("Content-Type", "")
        batch = read_device_event(parts["uuid"], parts["name"], sent.body, given, self._limits)
        return admit_events(batch, terms, bucket, self._producing.partitions)

    def event_create(self, sent: Sent, terms: Terms, bucket: bytes) -> Admitted:
        batch = read_event_create(sent.body, sent.media_type, self._limits)
        return admit_events(batch, terms, bucket, self._producing.partitions)
