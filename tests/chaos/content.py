"""What the load sends: events worth keeping, and events that have to be refused, in one body.

Pure but for the moment that is passed in. An event's id is the request's stem and its place, so a request
is told in the log by stem and number alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

NAMES = ("boot", "click", "error", "sale")
APPS = ("", "shop", "till")
SERVERS = ("", "s1", "s2")
DEVICES = 20
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of a load, each from 0 to 1; ``late`` reaches ``late_days`` back."""

    late: float = 0.1
    late_days: float = 3.0
    ahead: float = 0.01
    stamped: float = 0.1
    keyed: float = 0.1
    spoiled: float = 0.1
    repeated: float = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent, and sent again.

    ``places``: of the good events, place in the body → id; ``refused``: the same of the bad ones;
    ``moments``: id → observed_at, where the event says it.
    """

    stem: str
    kind: str
    body: bytes
    headers: dict[str, str]
    places: dict[int, str]
    refused: dict[int, str]
    moments: dict[str, str]

    @property
    def accepted(self) -> list[str]:
        """The ids of the good events."""
        return list(self.places.values())


def request_of(source: random.Random, stem: str, mixture: Mixture, now: datetime, size: int) -> Request:
    """A request of ``size`` good events, with a few bad ones among them now and then."""
    draw = source.random()
    kind = (
        "keyed" if draw < mixture.keyed else "stamped" if draw < mixture.keyed + mixture.stamped else "timed"
    )
    spoiled = source.randrange(1, 4) if source.random() < mixture.spoiled else 0
    bad = set(source.sample(range(size + spoiled), spoiled))
    events: list[dict[str, Any]] = []
    places: dict[int, str] = {}
    refused: dict[int, str] = {}
    moments: dict[str, str] = {}
    for place in range(size + spoiled):
        event = _event(source, mixture, now)
        if kind != "timed":
            del event["observed_at"]
        # What an idempotency key makes of an event that has no id.
        identifier = f"{stem}:{place}" if kind == "keyed" else f"{stem}-{place}"
        if kind != "keyed":
            event["id"] = identifier
        if place in bad:
            source.choice(SPOILERS)(event, now)
            refused[place] = identifier
        else:
            places[place] = identifier
            if kind == "timed":
                moments[identifier] = event["observed_at"]
        events.append(event)
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": stem} if kind == "keyed" else {})}
    # Not orjson: it refuses the half surrogates that are to be refused by the gateway.
    return Request(stem, kind, json.dumps(events).encode(), headers, places, refused, moments)


def _event(source: random.Random, mixture: Mixture, now: datetime) -> dict[str, Any]:
    draw = source.random()
    if draw < mixture.late:
        moment = now - timedelta(seconds=source.uniform(3600, mixture.late_days * 86_400))
    elif draw < mixture.late + mixture.ahead:
        moment = now + timedelta(seconds=source.uniform(60, 20 * 3600))
    else:
        moment = now - timedelta(seconds=source.uniform(0, 30))
    return {
        "name": source.choice(NAMES),
        "app": source.choice(APPS),
        "server": source.choice(SERVERS),
        "device": f"device-{source.randrange(DEVICES)}",
        "observed_at": moment.isoformat(),
        "data": {"value": source.random(), "note": "x" * source.randrange(80)},
    }


def _nameless(event: dict[str, Any], _now: datetime) -> None:
    event["name"] = ""


def _unknown_field(event: dict[str, Any], _now: datetime) -> None:
    event["colour"] = "red"


def _zero_character(event: dict[str, Any], _now: datetime) -> None:
    event["data"] = {"note": "a\0b"}


def _half_surrogate(event: dict[str, Any], _now: datetime) -> None:
    event["data"] = {"note": "\ud800"}


def _too_deep(event: dict[str, Any], _now: datetime) -> None:
    data: dict[str, Any] = {}
    for _ in range(80):
        data = {"in": data}
    event["data"] = data


def _huge_number(event: dict[str, Any], _now: datetime) -> None:
    # Written as 1 and 999 zeros: no double holds it.
    event["data"] = {"value": 10**999}


def _too_far_ahead(event: dict[str, Any], now: datetime) -> None:
    event["observed_at"] = (now + 2 * _DAY).isoformat()


def _before_everything(event: dict[str, Any], _now: datetime) -> None:
    event["observed_at"] = datetime(1969, 12, 31, tzinfo=UTC).isoformat()


SPOILERS: tuple[Callable[[dict[str, Any], datetime], None], ...] = (
    _nameless,
    _unknown_field,
    _zero_character,
    _half_surrogate,
    _too_deep,
    _huge_number,
    _too_far_ahead,
    _before_everything,
)
