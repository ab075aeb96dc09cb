"""Asks a process whether it is ready, and if not, what is missing.

Neighbours: each process serves /readyz (200, or 503 naming what is missing); the supervisor, `weir status`
and `weir doctor` ask.
Guarantee: an answer in words within `timeout_seconds`, whatever the process does.
"""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

ANSWER_BYTES = 64 * 1024
# A process gives each of its own checks two seconds.
ANSWER_SECONDS = 3.5


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a process says of itself: `missing` is None when it is ready; `facts` are its other short
    texts.
    """

    missing: str | None
    degraded: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def readiness(url: str, *, timeout_seconds: float = ANSWER_SECONDS) -> Readiness:
    """Ask the /readyz at this address."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:  # noqa: S310 - ours
            return understood(200, answer.read(ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return understood(error.code, error.read(ANSWER_BYTES))
    except (OSError, http.client.HTTPException) as error:
        return Readiness(silence(error, timeout_seconds))


def missing_parts(url: str, *, timeout_seconds: float = ANSWER_SECONDS) -> str | None:
    """None when the process is ready, else what is missing, in a few words."""
    return readiness(url, timeout_seconds=timeout_seconds).missing


def understood(status: int, body: bytes) -> Readiness:
    """An answer of /readyz: the parts that it names, whatever the form; a status other than 200 is not
    ready.
    """
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    missing = None if status == 200 else named(answer.get("missing")) or f"answers {status}"
    facts = {name: text for name, text in answer.items() if isinstance(text, str)}
    return Readiness(missing, named(answer.get("degraded")), facts)


def named(parts: Any) -> str:
    """Parts and their reasons in one line; empty if none is named."""
    if isinstance(parts, dict):
        return ", ".join(f"{part}: {why}" if why else str(part) for part, why in parts.items())
    if isinstance(parts, list):
        return ", ".join(str(part) for part in parts)
    return str(parts) if parts else ""


def silence(error: Exception, timeout_seconds: float) -> str:
    """Why there was no answer, in a few words."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ConnectionRefusedError):
        return "not listening yet"
    if isinstance(reason, TimeoutError):
        return f"does not answer within {timeout_seconds:g} s"
    return str(reason) or type(reason).__name__
