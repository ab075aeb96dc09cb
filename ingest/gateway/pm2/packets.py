"""What an agent sends over its link: packets ``{"channel", "payload"}``, read into our own kinds. Pure.

``human:event``: what an application has emitted. ``status``: every second, the machine and its processes;
``status:patch`` in its place where the agent was told to send differences: as good a sign of life, and of
the differences only another address counts. Every other channel (logs, exceptions, traces, metrics) is
left aside.
"""

from __future__ import annotations

import uuid_utils
from msgspec import Raw, Struct
from msgspec.json import Decoder
from pydantic import ValidationError

from ingest.gateway.dialects.events import EMPTY_DATA, Event
from ingest.gateway.dialects.nodes import NodeReport
from ingest.gateway.dialects.reading import NOT_TAKEN, check_utf8
from ingest.gateway.dialects.splitting import check_elements
from schema.errors import Invalid
from schema.events import EventModel, NodeReportModel, first_problem

SAMPLE_SECONDS = 10
# A status lists all processes of a machine, each with its actions and metrics.
MAX_PACKET_BYTES = 2 * 1024 * 1024
# In one ``status:patch``: what one second has changed of all processes.
MAX_CHANGES = 10_000


class _Packet(Struct):
    channel: str
    payload: Raw


class _Process(Struct):
    name: str = ""
    server: str = ""


class _HumanEvent(Struct):
    name: str
    at: int | float | None = None
    data: Raw = EMPTY_DATA
    process: _Process | None = None


class _Server(Struct):
    hostname: str = ""
    pm2_version: str = ""


class _StatusData(Struct):
    server: _Server | None = None


class _Status(Struct):
    data: _StatusData | None = None
    server_name: str = ""
    internal_ip: str | None = None


class _Change(Struct):
    path: str = ""
    value: Raw = Raw(b"null")


_PACKET = Decoder(_Packet)
_HUMAN_EVENT = Decoder(_HumanEvent)
_STATUS = Decoder(_Status)
_CHANGES = Decoder(list[_Change])
_IP = Decoder(str | None)


class Packets:
    """Reads the packets of one link. ``server``: the machine's name, as the link was opened with."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._host = server
        self._ip = ""
        self._version = ""
        self._sample_at = 0.0

    def read(self, text: bytes, now: float, monotonic: float) -> Event | NodeReport | None:
        """What a packet brings; None: nothing that we keep. ``now``: seconds since 1970. Raises Invalid."""
        check_utf8(text)
        try:
            packet = _PACKET.decode(text)
            match packet.channel:
                case "human:event":
                    return self._event(_HUMAN_EVENT.decode(packet.payload), now)
                case "status":
                    self._note(_STATUS.decode(packet.payload))
                    return self._report(now, monotonic)
                case "status:patch":
                    self._note_changes(_changes(packet.payload))
                    return self._report(now, monotonic)
                case _:
                    return None
        except NOT_TAKEN as error:
            raise Invalid(f"packet: {error}") from None

    def _event(self, sent: _HumanEvent, now: float) -> Event:
        process = sent.process or _Process()
        # It gets its id here, once: publishing it may have to be tried again.
        fields = {
            "name": sent.name,
            "id": str(uuid_utils.uuid7()),
            "observed_at": now if sent.at is None else sent.at,
            "app": process.name,
            "server": process.server or self._server,
        }
        try:
            EventModel.model_validate(fields)
        except ValidationError as error:
            raise Invalid(first_problem(error)) from None
        return Event(**fields, data=sent.data)  # type: ignore[arg-type]

    def _note(self, status: _Status) -> None:
        server = (status.data and status.data.server) or _Server()
        self._host = status.server_name or self._server or server.hostname
        self._ip = status.internal_ip or ""
        self._version = server.pm2_version

    def _note_changes(self, changes: list[_Change]) -> None:
        # Neither its name nor PM2's version changes while an agent runs.
        for change in changes:
            if change.path == "/internal_ip":
                self._ip = _IP.decode(change.value) or ""

    def _report(self, now: float, monotonic: float) -> NodeReport | None:
        if monotonic < self._sample_at:
            return None
        # A little less than the interval: a status that is early by a hair must not cost a whole second.
        self._sample_at = monotonic + SAMPLE_SECONDS - 0.5
        fields = {
            "host": self._host,
            "ip": self._ip,
            "version": self._version,
            "observed_at": now,
            "interval_seconds": SAMPLE_SECONDS,
        }
        try:
            NodeReportModel.model_validate(fields)
        except ValidationError as error:
            raise Invalid(first_problem(error)) from None
        return NodeReport(**fields)  # type: ignore[arg-type]


def _changes(payload: Raw) -> list[_Change]:
    """Counted before they are decoded, where they may be many. Raises Invalid, and what is in NOT_TAKEN."""
    if len(payload) > MAX_CHANGES:
        check_elements(payload, MAX_CHANGES)
    return _CHANGES.decode(payload)
