"""What an answer of the gateway means for the batch that was sent. Pure; the sender acts on it.

The guarantee: only an answer that accounts for every event ends a batch. Whatever else says 200 or 400
(a proxy, a login page, another program on that port) ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import orjson


class Action(StrEnum):
    """What to do with the batch."""

    DONE = "done"
    """Every event was accepted or refused for good."""
    WITHOUT_REFUSED = "without_refused"
    """Nothing was accepted; send what was not refused."""
    SPLIT = "split"
    """Too much, or something in it spoils it: send halves; a single event that still does is given up."""
    REPEAT = "repeat"
    """Nothing is known to be stored: send the very same again, after a while."""
    REPEAT_SLOWLY = "repeat_slowly"
    """As REPEAT, but somebody has to mend something first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``outcome`` is one of few words, for metrics; ``reason`` is for a person."""

    action: Action
    outcome: str
    reason: str = ""
    refused: tuple[tuple[int, str], ...] = ()
    """Index in the batch and the gateway's reason, by index."""
    receipt: str = ""
    retry_after_seconds: float | None = None


def unreachable(reason: str) -> Verdict:
    """No answer came: the connection failed, was reset or timed out. It may have landed."""
    return Verdict(Action.REPEAT, "unreachable", f"the gateway does not answer: {reason}")


def judged(status: int, headers: Mapping[str, str], body: bytes, events: int, now: float) -> Verdict:
    """The verdict on an answer to a batch of ``events``; ``now`` (seconds since 1970) is for Retry-After."""
    answer = _object(body)
    reason = _reason(status, answer)
    if status == 202:
        return _acknowledged(answer, events)
    if status == 400 and answer is not None:
        refused = _refused(answer, events)
        if refused:
            return Verdict(Action.WITHOUT_REFUSED, "refused", reason, refused)
        # Only our own problem document says that the body is at fault; a proxy's 400 may be about anything.
        if headers.get("Content-Type", "").startswith("application/problem+json"):
            return Verdict(Action.SPLIT, "refused", reason)
    if status == 413:
        # With a list, it is the events that are too large; without one, the body is.
        refused = _refused(answer or {}, events)
        action = Action.WITHOUT_REFUSED if refused else Action.SPLIT
        return Verdict(action, "too_large", reason, refused)
    if status in (401, 403):
        told = "the gateway does not take this key: give it a valid ingest key"
        return Verdict(Action.REPEAT_SLOWLY, "denied", f"{told} ({reason})")
    if status in (408, 429) or status >= 500:
        after = _retry_after_seconds(headers.get("Retry-After", ""), now)
        return Verdict(
            Action.REPEAT, "limited" if status == 429 else "unavailable", reason, retry_after_seconds=after
        )
    return _foreign(f"{reason}; is this the gateway's address?")


def _acknowledged(answer: dict[str, Any] | None, events: int) -> Verdict:
    if answer is None:
        return _foreign("202 without a JSON object")
    accepted = answer.get("accepted")
    refused = _refused(answer, events)
    if not isinstance(accepted, int) or isinstance(accepted, bool) or accepted + len(refused) != events:
        return _foreign(f"202 accounts for {accepted!r} accepted and {len(refused)} refused of {events}")
    receipt = answer.get("receipt")
    return Verdict(
        Action.DONE, "accepted", refused=refused, receipt=receipt if isinstance(receipt, str) else ""
    )


def _foreign(reason: str) -> Verdict:
    return Verdict(Action.REPEAT_SLOWLY, "unexpected", f"not an answer that we understand: {reason}")


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _refused(answer: dict[str, Any], events: int) -> tuple[tuple[int, str], ...]:
    entries = answer.get("rejected")
    found: dict[int, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < events:
            found[index] = str(entry.get("error", "no reason given"))[:500]
    return tuple(sorted(found.items()))


def _reason(status: int, answer: dict[str, Any] | None) -> str:
    for field in ("detail", "title", "error", "msg", "message"):
        if answer is not None and isinstance(answer.get(field), str):
            return f"{status}: {answer[field][:500]}"
    return f"status {status}"


def _retry_after_seconds(value: str, now: float) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return seconds if 0 <= seconds < float("inf") else None
