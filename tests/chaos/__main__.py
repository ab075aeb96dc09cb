"""``python -m tests.chaos``: break everything, judge, print, write ``chaos-results/``.

Exit codes: 0; 1 where a round failed; 2 where the campaign could not be held at all.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import orjson
import structlog
import typer
from rich.console import Console

from schema.errors import Unavailable
from tests.chaos import campaign, oracle, report
from tests.chaos.campaign import Result
from tests.chaos.faults import FAULTS
from tests.chaos.faults.clocks import LIBRARY, fetched
from tests.chaos.faults.fault import WHY_NOT
from tests.chaos.ground import prepared
from tests.chaos.journal import journal_in
from tests.chaos.mounts import enter_namespace, in_namespace
from tests.chaos.page import figures, filled
from tests.chaos.schedule import WHOLE_MINUTES, Round, schedule
from tests.chaos.slots import Slots

BROKEN = 2
# For ending everything.
CLOSING_SECONDS = 10.0

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def chaos(
    *,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="How long; below 5: the short form.")
    ] = WHOLE_MINUTES,
    seed: Annotated[int | None, typer.Option(help="What is drawn by chance is drawn from it.")] = None,
    only: Annotated[
        str, typer.Option(help=f"Faults, with commas: {', '.join(f.name for f in FAULTS)}.")
    ] = "",
    output: Annotated[Path, typer.Option(help="Folder of the JSON, the requests and the logs.")] = Path(
        "chaos-results"
    ),
    mixed: Annotated[bool, typer.Option(help="Only mixtures: nothing strikes alone.")] = False,
    page: Annotated[Path | None, typer.Option(help="A page that the figures are written into.")] = None,
    plan: Annotated[bool, typer.Option(help="Only print what would strike.")] = False,
) -> None:
    """Break everything that can break under load, and count what was promised."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(wanted) - {fault.name for fault in FAULTS}:
        raise typer.BadParameter(f"no such fault: {', '.join(sorted(unknown))}")
    if not plan:
        enter_namespace(sys.argv[1:])
    # The code of maintenance runs in this process too, and has a log of its own.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    chosen = secrets.randbelow(10**6) if seed is None else seed
    able = {"disks", "clock"} if plan else _abilities(output)
    rounds = schedule(FAULTS, chosen, minutes, able=able, only=wanted)
    if mixed:
        rounds = [each for each in rounds if not each.alone]
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"seed {chosen}, {minutes:g} minutes; as many of these rounds as the time allows:")
    for each in rounds:
        console.print(f"{each.number:3d}  {each.title}, {each.seconds:.0f} s")
    left_out = {f.name: WHY_NOT[f.needs] for f in FAULTS if f.needs and f.needs not in able}
    for name, reason in left_out.items():
        console.print(f"left out: {name} ({reason})")
    if plan:
        return
    try:
        code = asyncio.run(_held(console, rounds, chosen, minutes, output, left_out))
    except Unavailable as error:
        console.print(f"[red]no campaign:[/red] {error}")
        code = BROKEN
    if page is not None and code != BROKEN:
        found = orjson.loads((output / "chaos.json").read_bytes())
        page.write_text(filled(page.read_text(encoding="utf-8"), figures(found)), encoding="utf-8")
    raise typer.Exit(code)


def _abilities(output: Path) -> set[str]:
    """What this machine allows; fetches what that takes."""
    return ({"disks"} if in_namespace() else set()) | ({"clock"} if _library(output) else set())


def _library(output: Path) -> Path | None:
    tools = output / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    return next(tools.rglob(LIBRARY), None) or fetched(tools)


async def _held(
    console: Console, rounds: list[Round], seed: int, minutes: float, output: Path, left_out: dict[str, str]
) -> int:
    began_at = time.monotonic()
    logs = output / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    results: list[Result] = []
    slots: Slots | None = None

    def told(result: Result) -> None:
        results.append(result)
        report.show_round(console, result)
        report.written(output / "chaos.json", report.document(results, seed, minutes, left_out, slots))

    with journal_in(output / "requests.jsonl") as journal:
        async with prepared(logs, small_disks=in_namespace(), library=_library(output)) as ground:
            slots = ground.slots
            console.print(f"ready after {time.monotonic() - began_at:.0f} s")
            await campaign.run(ground, journal, rounds, seed, began_at + minutes * 60 - CLOSING_SECONDS, told)
            closing = await asyncio.to_thread(oracle.wrong_rollups, ground.dsn, None)
    report.show(console, results, seed, slots)
    if closing:
        console.print(f"[red]over all rounds:[/red] {closing}")
    failed = bool(closing) or any(result.failures for result in results)
    console.print(
        f"written: {output}; the same again: --seed {seed}" + ("" if failed else "; nothing was lost")
    )
    return int(failed)


if __name__ == "__main__":
    app()
