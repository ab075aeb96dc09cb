"""The table for people and the JSON for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psycopg
from rich.console import Console
from rich.table import Table

from tests.bench.report import commit, machine
from tests.chaos.campaign import Result
from tests.chaos.slots import MIB, Slots

MIXED = "several at once"


_STORE = """
SELECT edition, current_setting('server_version'), extversion FROM store_state, pg_extension
WHERE extname = 'timescaledb'
"""
_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Store:
    """What the events were stored in."""

    edition: str
    postgresql: str
    timescaledb: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign was held under. ``left_out``: fault → why."""

    seed: int
    minutes: float
    left_out: dict[str, str]


@dataclass(slots=True)
class Line:
    """One line of the table: a fault, over all rounds in which it struck alone, or all mixed rounds."""

    fault: str
    rounds: int = 0
    injected: int = 0
    requests: int = 0
    acknowledged: int = 0
    stored: int = 0
    repeated: int = 0
    refused: int = 0
    twice: int = 0
    lost: int = 0
    recovery_seconds: float = 0.0
    failures: int = 0

    def add(self, result: Result) -> None:
        """Count a round in."""
        found = result.verdict
        self.rounds += 1
        self.injected += sum(result.injected.values())
        self.requests += result.requests
        self.acknowledged += found.acknowledged
        self.stored += found.stored
        self.repeated += result.repeated
        self.refused += result.refused
        self.twice += found.twice
        self.lost += found.lost
        self.recovery_seconds = max(self.recovery_seconds, result.recovery_seconds)
        self.failures += bool(result.failures)


def lines(results: Sequence[Result]) -> list[Line]:
    """A line a fault, in order, and one for what was mixed."""
    found: dict[str, Line] = {}
    for result in results:
        name = result.round.title if result.round.alone else MIXED
        found.setdefault(name, Line(name)).add(result)
    return list(found.values())


def total(of: Sequence[Line]) -> Line:
    """All lines together."""
    names = (
        "rounds",
        "injected",
        "requests",
        "acknowledged",
        "stored",
        "repeated",
        "refused",
        "twice",
        "lost",
    )
    sums = {name: sum(getattr(line, name) for line in of) for name in (*names, "failures")}
    return Line("all", recovery_seconds=max((line.recovery_seconds for line in of), default=0.0), **sums)


def table(results: Sequence[Result], seed: int) -> Table:
    """What struck, and what became of the events."""
    shown = Table(title=f"Chaos, seed {seed}", title_justify="left")
    shown.add_column("fault", max_width=34)
    for heading in (
        *("rounds", "injected", "requests", "acknowledged", "stored", "repeated", "refused", "twice", "lost"),
        *("recovery s", "verdict"),
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    every = lines(results)
    for line in [*every, total(every)]:
        shown.add_row(
            line.fault,
            *map(str, (line.rounds, line.injected, line.requests, line.acknowledged, line.stored)),
            *map(str, (line.repeated, line.refused, line.twice, line.lost)),
            f"{line.recovery_seconds:.1f}",
            f"[red]{line.failures} failed[/red]" if line.failures else "[green]held[/green]",
            end_section=line is every[-1],
        )
    return shown


def store_of(dsn: str) -> Store:
    """Asks a migrated database what it is."""
    with psycopg.connect(dsn, connect_timeout=_CONNECT_SECONDS) as connection:
        row = connection.execute(_STORE).fetchone()
    assert row is not None
    return Store(*row)


def document(results: Sequence[Result], terms: Terms, store: Store, slots: Slots) -> dict[str, object]:
    """Everything that somebody needs to judge the campaign, or to repeat it."""
    every = lines(results)
    kinds: Counter[str] = Counter()
    for result in results:
        kinds.update(result.injected)
    return {
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": terms.seed,
        "minutes": terms.minutes,
        "commit": commit(),
        "machine": machine(),
        "database": asdict(store),
        "faults": [asdict(line) for line in [*every, total(every)]],
        "injected": dict(kinds),
        "left_out": terms.left_out,
        "peak_bytes": {slot.name: slot.peak_bytes for slot in slots.every},
        "rounds": [
            {
                "number": result.round.number,
                "faults": [fault.name for fault in result.round.faults],
                "seconds": round(result.seconds, 1),
                "recovery_seconds": round(result.recovery_seconds, 2),
                "injected": result.injected,
                "statuses": {str(status): count for status, count in result.statuses.items()},
                "verdict": asdict(result.verdict),
                "remarks": result.remarks,
                "failures": result.failures,
            }
            for result in results
        ],
    }


def written(path: Path, content: dict[str, object]) -> None:
    """Write the JSON, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def show_round(console: Console, result: Result) -> None:
    """A line about a round that is over."""
    found = result.verdict
    state = "[red]failed[/red]" if result.failures else "held"
    console.print(
        f"{result.round.number:3d}  {result.round.title}: {sum(result.injected.values())} injected, "
        f"{found.acknowledged} acknowledged, {found.lost} lost, recovery {result.recovery_seconds:.1f} s, "
        f"{result.seconds:.0f} s, {state}" + (f" ({'; '.join(result.remarks)})" if result.remarks else "")
    )
    for failure in result.failures:
        console.print(failure, style="red", markup=False)


def show(console: Console, results: Sequence[Result], seed: int, slots: Slots) -> None:
    """Print the table and what memory was taken at most."""
    console.print(table(results, seed))
    taken = ", ".join(f"{slot.name} {slot.peak_bytes // MIB} MiB" for slot in slots.every)
    console.print(f"memory at most: {taken}")
