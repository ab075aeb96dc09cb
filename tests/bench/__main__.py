"""``python -m tests.bench``: measure, print, write ``bench-results/bench.json``.

Exit codes: 0; 1 where a figure falls short of its must and ``--strict`` was given; 3 where a run is void.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from tests.bench import disk, gateway, growth, histogram, latency, memory, queries, report, way, writer
from tests.bench.figures import Figure
from tests.bench.ground import Ground, prepared
from tests.bench.recount import Void
from tests.bench.scale import FULL, QUICK, SMOKE, Scale
from tests.support import servers

Part = Callable[[Ground, Scale, dict[str, str]], Awaitable[list[Figure]]]
PARTS: dict[str, Part] = {
    "writer": writer.measure,
    "way": way.measure,
    "gateway": gateway.measure,
    "histogram": histogram.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "queries": queries.measure,
    "growth": growth.measure,
    "disk": disk.measure,
}
SCALES = {"quick": QUICK, "full": FULL, "smoke": SMOKE}
VOID = 3


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def bench(
    *,
    only: Annotated[str, typer.Option(help=f"Parts, with commas: {', '.join(PARTS)}.")] = "",
    scale: Annotated[str, typer.Option(help="quick, full (5 million events) or smoke.")] = "quick",
    events: Annotated[int | None, typer.Option(min=1000, help="Events of the memory part.")] = None,
    stored: Annotated[
        int | None,
        typer.Option(min=10_000, help="Growth: this one point of the axis of events stored before, alone."),
    ] = None,
    kafka: Annotated[
        str | None, typer.Option(envvar=servers.KAFKA_VARIABLE, help="Bootstrap of a given Kafka.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(envvar=servers.DATABASE_VARIABLE, help="A superuser's DSN of a given TimescaleDB."),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="WEIR_… setting of the processes, NAME=VALUE.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("bench-results/bench.json"),
    strict: Annotated[bool, typer.Option(help="Fail where a figure falls short of its must.")] = False,
) -> None:
    """Measure Weir against the raw limits of this machine."""
    wanted = [part.strip() for part in only.split(",") if part.strip()] or list(PARTS)
    if unknown := [part for part in wanted if part not in PARTS]:
        raise typer.BadParameter(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if scale not in SCALES:
        raise typer.BadParameter(f"no such scale: {scale}; there are {', '.join(SCALES)}")
    chosen = SCALES[scale] if events is None else replace(SCALES[scale], memory_events=events)
    if stored is not None:
        chosen = replace(chosen, growth_stored=(stored,), growth_axes=False)
    settings = dict(pair.split("=", 1) for pair in setting or [])
    raise typer.Exit(_run(wanted, chosen, settings, kafka, database, output, strict=strict))


def _run(
    parts: list[str],
    scale: Scale,
    settings: dict[str, str],
    kafka: str | None,
    database: str | None,
    output: Path,
    *,
    strict: bool,
) -> int:
    console = Console(width=None if sys.stdout.isatty() else 220)
    began_at = datetime.now(UTC)
    figures: list[Figure] = []
    void = 0
    with prepared(kafka, database) as ground:
        for part in parts:
            console.print(f"[bold]{part}[/bold] …")
            try:
                found = uvloop.run(_measured(PARTS[part], ground, scale, settings))
            except (Void, RuntimeError) as error:
                console.print(f"[red]void:[/red] {part}: {error}")
                void = VOID
                continue
            figures += found
            report.show(console, found)
            report.written(output, report.document(figures, scale, settings, ground, began_at))
    if len(parts) > 1:
        report.show(console, figures)
    console.print(f"written: {output}")
    short = any(figure.passed is False for figure in figures)
    return void or (1 if strict and short else 0)


async def _measured(part: Part, ground: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    return await part(ground, scale, settings)


if __name__ == "__main__":
    app()
