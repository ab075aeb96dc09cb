"""The table for people and the JSON for machines."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import orjson
import psycopg
from rich.console import Console
from rich.table import Table

from tests.bench.arithmetic import Summary
from tests.bench.figures import Figure
from tests.bench.ground import Ground
from tests.bench.scale import Scale

_LIBRARIES = ("aiohttp", "aiokafka", "asyncpg", "msgspec", "orjson", "uvloop")
_SERVER_SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "wal_compression",
)


def table(figures: Sequence[Figure]) -> Table:
    """One line a figure: value (least to most), what it must reach and aims at, and the verdict."""
    shown = Table(title="Weir against the raw limits of this machine", title_justify="left")
    shown.add_column("figure", max_width=44)
    for heading in ("median", "least", "most", "must", "aim", "verdict", "rate", "against"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("CPU µs an event", max_width=36)
    for figure in figures:
        goal = figure.aims_at
        shown.add_row(
            figure.title,
            *(_number(value) for value in (figure.value.median, figure.value.least, figure.value.most)),
            *(["", ""] if goal is None else [_number(goal.must), _number(goal.aim)]),
            verdict(figure),
            _rate(figure.rate, figure.rate_unit),
            _rate(figure.against, figure.rate_unit),
            ", ".join(f"{name} {used:g}" for name, used in figure.cpu_us.items()),
        )
    return shown


def verdict(figure: Figure) -> str:
    """Words for whether the goal is reached, and how many measurements were thrown away."""
    thrown = f", {figure.thrown_away} thrown away" if figure.thrown_away else ""
    goal = figure.aims_at
    if figure.noisy:
        return f"[yellow]noisy[/yellow]{thrown}"
    if goal is None:
        return thrown.removeprefix(", ")
    if not goal.met(figure.value.median):
        return f"[red]short[/red]{thrown}"
    return (
        (f"[green]aim[/green]{thrown}") if goal.aimed(figure.value.median) else f"[green]must[/green]{thrown}"
    )


def document(
    figures: Sequence[Figure], scale: Scale, settings: dict[str, str], ground: Ground, began_at: datetime
) -> dict[str, object]:
    """Everything that somebody needs to judge the figures, as JSON."""
    return {
        "began_at": began_at.isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {**_versions(), **_database(ground)},
        "scale": asdict(scale),
        "settings": settings,
        "figures": [
            {
                **asdict(figure),
                "must": figure.aims_at.must if figure.aims_at else None,
                "aim": figure.aims_at.aim if figure.aims_at else None,
                "passed": figure.passed,
            }
            for figure in figures
        ],
    }


def written(path: Path, content: dict[str, object]) -> None:
    """Write the JSON, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n")


def machine() -> dict[str, object]:
    """Processor, cores, memory, kernel."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "system": platform.platform(),
        "load_average": os.getloadavg(),
    }


def show(console: Console, figures: Sequence[Figure]) -> None:
    """Print the table."""
    console.print(table(figures))


def commit() -> str | None:
    """What was measured, if git is there and knows."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None


def _versions() -> dict[str, object]:
    return {
        "weir": version("weir"),
        "commit": commit(),
        "python": sys.version.split()[0],
        **{name: version(name) for name in _LIBRARIES},
    }


def _database(ground: Ground) -> dict[str, object]:
    with psycopg.connect(ground.database_server, connect_timeout=10) as connection:
        names = ("server_version", "timescaledb.license", *_SERVER_SETTINGS)
        values = [connection.execute("SELECT current_setting(%s, true)", [name]).fetchone() for name in names]
        extension = connection.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        ).fetchone()
    return {
        **{name: value[0] if value else None for name, value in zip(names, values, strict=True)},
        "timescaledb": extension[0] if extension else None,
    }


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _rate(rate: Summary | None, unit: str) -> str:
    return "" if rate is None else f"{rate.median:,.0f} {unit}"
