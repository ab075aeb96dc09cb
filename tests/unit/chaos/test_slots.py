"""Whoever waits for a place is not told of the process that another fault has ended there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.chaos import slots
from tests.chaos.slots import Slot, Slots


class Child:
    """The end of a process, as far as a place looks at it."""

    pid = 0

    def __init__(self, code: int | None) -> None:
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode


class Told:
    """A process that is ready, or ends before it is."""

    def __init__(self, *, ends: bool, said: str = "") -> None:
        self.child = Child(None)
        self.ends = ends
        self.said = said

    def log(self) -> str:
        return self.said


async def test_a_process_that_was_killed_while_it_started_makes_room_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Told(ends=True), Told(ends=False)
    slot = Slot("gateway", 0, {})

    def wait_ready(process: Any, _seconds: float) -> None:
        if process.ends:
            process.child.returncode = -9
            slot.process = second  # type: ignore[assignment]
            raise AssertionError("gateway ended with -9")

    monkeypatch.setattr(slots, "wait_ready", wait_ready)
    slot.process = first  # type: ignore[assignment]
    await asyncio.wait_for(Slots(weir=None).ready(slot, 5), 5)  # type: ignore[arg-type]
    assert slot.process is second  # type: ignore[comparison-overlap]


async def test_a_process_that_lives_and_is_never_ready_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_ready(_process: Any, _seconds: float) -> None:
        raise AssertionError("not ready")

    monkeypatch.setattr(slots, "wait_ready", wait_ready)
    slot = Slot("gateway", 0, {})
    slot.process = Told(ends=False)  # type: ignore[assignment]
    with pytest.raises(AssertionError, match="not ready"):
        await Slots(weir=None).ready(slot, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "said", "is_surprise"),
    [
        ("writer", "cannot listen: address already in use", False),
        ("gateway", "cannot listen: address already in use", True),
        ("writer", "AssertionError", True),
    ],
)
def test_a_writer_whose_port_somebody_took_gets_another(role: str, said: str, *, is_surprise: bool) -> None:
    slot = Slot(role, 0, {})
    port = slot.port
    slot.process = Told(ends=True, said=said)  # type: ignore[assignment]
    places = Slots(weir=None)  # type: ignore[arg-type]
    places._note_end(slot)
    assert bool(places.surprises) == is_surprise
    assert (slot.port == port) == is_surprise
