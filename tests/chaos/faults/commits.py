"""A crash between the database's commit and anything after it.

The proxy before the database is the failpoint, so production code needs none: it hands the writer's COMMIT
to the server and cuts the connection before the answer. Every other time the writer is killed in that very
moment; the other half of the time it lives on with a commit of which it knows nothing.
"""

from __future__ import annotations

import time

from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene
from tests.chaos.waiting import until_so

ROW = "crash between the database's commit and anything after"
_WAIT_SECONDS = 8.0
_POLL_SECONDS = 0.002


async def crash_after_commit(scene: Scene, seconds: float) -> None:
    """What was committed and never told is not stored again."""
    deadline = time.monotonic() + seconds
    deadly = True
    lost = 0
    while time.monotonic() < deadline:
        await scene.pause(0.2, 1.0)
        slot = scene.any_of("writer")
        proxy = scene.ground.paths[f"{slot.name}-database"]
        before = proxy.answers_cut
        proxy.lose_answer_to(b"COMMIT")
        patience = min(_WAIT_SECONDS, max(0.5, deadline - time.monotonic()))
        caught = await until_so(lambda: proxy.answers_cut > before, patience, _POLL_SECONDS)  # noqa: B023
        proxy.lose_answer_to(None)
        if not caught:
            continue
        lost += 1
        if deadly and not slot.held and slot.kill():
            scene.strike("writer killed after its COMMIT", slot=slot.name)
        else:
            scene.strike("answer to COMMIT lost", slot=slot.name)
        deadly = not deadly
    if scene.alone:
        scene.must(lost > 0, "no COMMIT was ever caught: the round proves nothing")


FAULTS = (Fault("crash after the commit", ROW, crash_after_commit, 40, 6),)
