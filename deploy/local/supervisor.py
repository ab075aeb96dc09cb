"""Keeps the processes of the stack alive, and ends them in order.

The concurrency: every child has one guardian, a thread that starts it, waits for its readiness, watches it,
and starts it again after a crash. The thread lives as long as its child is wanted, because the kernel ties a
child's life to the thread that started it. The calling thread only waits; it takes no part in what happens to
a child.

A guardian's loop, and what the others see of it (`Standing`):

    starting ──▶ ready ──▶ crashed: restarting, after a pause that grows ──▶ starting …
        │                      └─ several of them without a sound life between: crash loop (goes on, slowly)
        └─ cannot be started: counts as a crash

Neighbours: `deploy.local.child` is one process, `deploy.local.stack` says which ones and in which order,
`deploy.local.state` is what other shells read.
Guarantee: `stop` returns within its budget and leaves no child behind.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

from deploy.local.child import Child
from deploy.local.rotation import last_lines, log_bytes
from deploy.local.state import ProcessState, Standing

PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
# A child that lived this long has left its troubles behind: its next crash is a first one.
SOUND_SECONDS = 60.0
CRASHES_IN_A_LOOP = 4
LAST_WORDS = 12
READINESS_POLL_SECONDS = 0.1
WATCH_SECONDS = 0.1
# After its grace a child is killed; the kernel may take a moment over it.
OVERTIME_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """Something a person wants to know about a process: its name, its standing, and why."""

    name: str
    standing: Standing
    text: str
    last_words: tuple[str, ...] = ()


Observer = Callable[[Report], None]


class Guardian:
    """One child and the thread that cares for it."""

    def __init__(
        self,
        child: Child,
        observer: Observer,
        *,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.child = child
        self._observer = observer
        self._pauses_seconds = pauses_seconds
        self._clock = clock
        self._stopping = threading.Event()
        self._grace_seconds = 0.0
        self._settled = threading.Event()
        self._inside_start = False
        self._log_began_bytes = 0
        self._crashes_in_a_row = 0
        self._lock = threading.Lock()
        self._state = ProcessState(name=child.name, log=child.log, url=child.url)
        self._thread = threading.Thread(target=self._care, name=f"guardian of {child.name}", daemon=True)

    @property
    def state(self) -> ProcessState:
        """What is known of the child now."""
        with self._lock:
            return self._state

    def start(self) -> None:
        """Begin to care; returns at once."""
        self._thread.start()

    def settled(self, timeout_seconds: float) -> bool:
        """Wait until the child is ready, or in a crash loop, or stopped. False: the time ran out first."""
        return self._settled.wait(timeout_seconds)

    def stop(self, grace_seconds: float) -> None:
        """End the child for good: SIGTERM, and SIGKILL after the grace. Returns when it is gone."""
        deadline = self._clock() + grace_seconds
        self._grace_seconds = grace_seconds
        self._stopping.set()
        while self._thread.is_alive():
            self._thread.join(WATCH_SECONDS)
            # A server's start may wait for a long time; its end ends the wait.
            if self._inside_start:
                self.child.stop(max(deadline - self._clock(), 0.0))
            elif self._clock() > deadline + OVERTIME_SECONDS:
                return

    def _care(self) -> None:
        while not self._stopping.is_set():
            began_at = self._clock()
            ending = self._one_life()
            if ending is None:
                break
            if self._clock() - began_at >= SOUND_SECONDS:
                self._crashes_in_a_row = 0
            self._pause_after(ending)
        if self.state.standing is not Standing.WAITING:
            self._end()
        self._settled.set()

    def _one_life(self) -> str | None:
        """From start to end: how it ended, or None if it was we who wanted it to end."""
        self._show(Standing.STARTING, "")
        self._log_began_bytes = log_bytes(self.child.log)
        self._inside_start = True
        try:
            self.child.start()
        except Exception as error:  # noqa: BLE001 - whatever hinders a start is told, and tried again
            return None if self._stopping.is_set() else f"cannot be started: {error}"
        finally:
            self._inside_start = False
        self._note_pid()
        ready = False
        while not self._stopping.is_set():
            ending = self.child.wait(WATCH_SECONDS if ready else READINESS_POLL_SECONDS)
            if ending is not None:
                return None if self._stopping.is_set() else ending
            if not ready:
                missing = self.child.missing()
                ready = missing is None
                if ready:
                    self._show(Standing.READY, "")
                    self._settled.set()
                elif missing != self.state.note:
                    self._show(Standing.STARTING, missing or "")
        return None

    def _pause_after(self, ending: str) -> None:
        pause = self._pauses_seconds[min(self._crashes_in_a_row, len(self._pauses_seconds) - 1)]
        self._crashes_in_a_row += 1
        looping = self._crashes_in_a_row >= CRASHES_IN_A_LOOP
        self._change(restarts=self.state.restarts + 1, pid=None)
        # A server's reason comes with its last words, line by line.
        ending, *words = ending.splitlines()
        if looping:
            text = f"{ending}, {self._crashes_in_a_row} times in a row; trying again in {pause:g} s"
        else:
            text = f"{ending}; starting it again in {pause:g} s"
        first_or_loop = self._crashes_in_a_row in {1, CRASHES_IN_A_LOOP}
        last_words = [word.strip() for word in words] or last_lines(
            self.child.log, LAST_WORDS, since_bytes=self._log_began_bytes
        )
        self._show(
            Standing.CRASH_LOOP if looping else Standing.RESTARTING,
            text,
            tuple(last_words) if first_or_loop else (),
        )
        if looping:
            self._settled.set()
        self._stopping.wait(pause)

    def _end(self) -> None:
        self._show(Standing.STOPPING, "")
        gentle = self.child.stop(self._grace_seconds)
        text = "" if gentle else f"killed: it did not end within {self._grace_seconds:.1f} s"
        self._change(pid=None)
        self._show(Standing.STOPPED, text)

    def _note_pid(self) -> None:
        pid = self.child.pid
        created_at = None
        if pid is not None:
            try:
                created_at = psutil.Process(pid).create_time()
            except psutil.NoSuchProcess:
                pid = None
        self._change(pid=pid, pid_created_at=created_at)

    def _show(self, standing: Standing, note: str, last_words: tuple[str, ...] = ()) -> None:
        self._change(standing=standing, note=note, since=datetime.now(UTC))
        self._observer(Report(self.child.name, standing, note, last_words))

    def _change(self, **changes: object) -> None:
        with self._lock:
            self._state = self._state.model_copy(update=changes)


class Supervisor:
    """The guardians of a stack, in the order of their start.

    The observer is called from the guardians' threads, one call at a time.
    """

    def __init__(self, observer: Observer, *, pauses_seconds: Sequence[float] = PAUSES_SECONDS) -> None:
        self._observer = observer
        self._pauses_seconds = pauses_seconds
        self._guardians: dict[str, Guardian] = {}
        self._reporting = threading.Lock()

    def start(self, child: Child) -> Guardian:
        """Begin to care for a child; returns at once."""
        guardian = Guardian(child, self._report, pauses_seconds=self._pauses_seconds)
        self._guardians[child.name] = guardian
        guardian.start()
        return guardian

    @property
    def states(self) -> dict[str, ProcessState]:
        """What is known of each child that was started."""
        return {name: guardian.state for name, guardian in list(self._guardians.items())}

    def stop(self, order: Sequence[str], *, budget_seconds: float) -> None:
        """End all children, those named in `order` first and one after the other, within the budget.

        A child that does not end in its share of the budget is killed, so that the last ones have time left.
        """
        deadline = time.monotonic() + budget_seconds
        names = [name for name in order if name in self._guardians]
        names += [name for name in reversed(self._guardians) if name not in names]
        for place, name in enumerate(names):
            rest = len(names) - place - 1
            self._guardians.pop(name).stop(share_seconds(deadline - time.monotonic(), rest))

    def _report(self, report: Report) -> None:
        with self._reporting:
            self._observer(report)


def share_seconds(left_seconds: float, others: int) -> float:
    """The grace of one child when so much of the budget is left and so many others still wait for their end.

    Half of what is left, so that one that hangs leaves the others time; all of it for the last.
    """
    return max(left_seconds, 0.0) / (2 if others else 1)
