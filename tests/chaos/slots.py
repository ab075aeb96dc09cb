"""The places of Weir's processes, and a supervisor that starts each again when it has ended.

A slot keeps its port, so that whoever talks to it finds the next process where the last one was, as behind
any service manager. An end that nobody ordered is remembered: it fails the round.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from deploy.local.ports import free_port
from tests.chaos.waiting import until_so
from tests.support.processes import Process, Weir, wait_ready

LOOK_SECONDS = 0.2
READY_SECONDS = 60.0
PORT_TAKEN = "address already in use"
MIB = 1024 * 1024
MOST_BYTES = {"gateway": 250 * MIB, "writer": 300 * MIB, "api": 250 * MIB}


@dataclass(slots=True)
class Slot:
    """One place. ``held``: it stays empty until it is let go. ``ordered``: its end is somebody's doing.
    ``lasting``: it stays for the whole campaign.
    """

    role: str
    number: int
    settings: dict[str, str]
    port: int = field(default_factory=free_port)
    process: Process | None = None
    lasting: bool = True
    held: bool = False
    ordered: bool = False
    extra: dict[str, str] = field(default_factory=dict)
    peak_bytes: int = 0
    starts: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return f"{self.role}-{self.number}"

    @property
    def environment(self) -> dict[str, str]:
        """Its settings, the port included."""
        return {**self.settings, f"WEIR_{self.role.upper()}_PORT": str(self.port)}

    @property
    def running(self) -> Process:
        """Its process. Fails where there is none."""
        assert self.process is not None, f"{self.name} has no process"
        return self.process

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.child.poll() is None

    def kill(self) -> bool:
        """SIGKILL now; whether there was anybody."""
        if not self.alive:
            return False
        self.ordered = True
        self.running.kill()
        return True


@dataclass(slots=True)
class Slots:
    """All places of a deployment. ``surprises``: processes that ended, or grew, though nobody made them."""

    weir: Weir
    every: list[Slot] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)

    def of(self, role: str) -> list[Slot]:
        """The places of a role."""
        return [slot for slot in self.every if slot.role == role]

    async def begin(self, slot: Slot) -> None:
        """Start a process in an empty place; it may not be ready yet."""
        slot.ordered = False
        slot.starts += 1
        slot.process = await asyncio.to_thread(
            lambda: self.weir.start(slot.role, ready=False, **{**slot.environment, **slot.extra})
        )

    async def again(self, slot: Slot, **extra: str) -> None:
        """End a process and start it with other settings beside its own; returns once it is ready."""
        slot.held = True
        try:
            slot.extra = extra
            if slot.alive:
                slot.ordered = True
                await asyncio.to_thread(slot.running.terminate)
            await self.begin(slot)
        finally:
            slot.held = False
        await self.ready(slot)

    async def ready(self, slot: Slot, seconds: float = READY_SECONDS) -> None:
        """Until the process there is ready; the next one, where a fault ends it meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(1.0, deadline - time.monotonic())
            await until_so(lambda: slot.alive, left)
            process = slot.running
            try:
                await asyncio.to_thread(wait_ready, process, left)
            except AssertionError:
                # An end that nobody ordered is noted by the supervisor, and fails the round.
                if process.child.poll() is None or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return

    async def all_ready(self) -> None:
        """Until every process is ready."""
        await asyncio.gather(*(self.ready(slot) for slot in self.every))

    async def supervise(self) -> None:
        """For as long as the campaign lasts: start what has ended, and watch how much memory each takes."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for slot in list(self.every):
                if slot.alive:
                    self._weigh(slot)
                elif not slot.held:
                    self._note_end(slot)
                    await self.begin(slot)

    def _note_end(self, slot: Slot) -> None:
        process = slot.process
        if process is None or slot.ordered:
            return
        said = process.log()
        if slot.role == "writer" and PORT_TAKEN in said:
            # Another program of this machine was quicker. Nobody but its place knows a writer's port.
            slot.port = free_port()
        else:
            code = process.child.returncode
            self.surprises.append(f"{slot.name} ended by itself with {code}:\n{said[-2000:]}")

    def _weigh(self, slot: Slot) -> None:
        try:
            size = slot.running.resident_bytes
        except (AssertionError, OSError):
            # It has ended meanwhile: the next look sees it.
            return
        if size > MOST_BYTES[slot.role] >= slot.peak_bytes:
            self.surprises.append(f"{slot.name} takes {size // MIB} MiB")
        slot.peak_bytes = max(slot.peak_bytes, size)
