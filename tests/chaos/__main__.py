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
from tests.chaos.given import DISK, PROCESSES, START, Reach
from tests.chaos.ground import prepared
from tests.chaos.journal import journal_in
from tests.chaos.mounts import enter_namespace, in_namespace
from tests.chaos.page import filled
from tests.chaos.report import Terms
from tests.chaos.schedule import WHOLE_MINUTES, Round, schedule
from tests.support.servers import DATABASE_VARIABLE

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
    database: Annotated[
        str, typer.Option(envvar=DATABASE_VARIABLE, help="A superuser's DSN of a given TimescaleDB.")
    ] = "",
    database_pid_file: Annotated[
        Path | None, typer.Option(help="The given server's postmaster.pid: its processes may be frozen.")
    ] = None,
    database_start: Annotated[
        str, typer.Option(help="Starts the given server when it is down: with its pid file it may be killed.")
    ] = "",
    database_disk: Annotated[
        Path | None,
        typer.Option(help="A folder on the small disk of the given server: may be filled."),
    ] = None,
) -> None:
    """Break everything that can break under load, and count what was promised."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(wanted) - {fault.name for fault in FAULTS}:
        raise typer.BadParameter(f"no such fault: {', '.join(sorted(unknown))}")
    reach = Reach(database_pid_file, database_start, database_disk)
    if reach != Reach() and not database:
        raise typer.BadParameter("nothing is known of a database server: --database")
    given = (database, reach) if database else None
    if not plan:
        enter_namespace(sys.argv[1:])
    # The code of maintenance runs in this process too, and has a log of its own.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    chosen = secrets.randbelow(10**6) if seed is None else seed
    able = {"disks", "clock"} if plan else _abilities(output)
    able |= reach.abilities if given else {PROCESSES, START} | ({DISK} if "disks" in able else set())
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
        code = asyncio.run(_held(console, rounds, Terms(chosen, minutes, left_out), output, given))
    except Unavailable as error:
        console.print(f"[red]no campaign:[/red] {error}")
        code = BROKEN
    if page is not None and code != BROKEN:
        found = orjson.loads((output / "chaos.json").read_bytes())
        page.write_text(filled(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    raise typer.Exit(code)


def _abilities(output: Path) -> set[str]:
    """What this machine allows; fetches what that takes."""
    return ({"disks"} if in_namespace() else set()) | ({"clock"} if _library(output) else set())


def _library(output: Path) -> Path | None:
    tools = output / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    return next(tools.rglob(LIBRARY), None) or fetched(tools)


async def _held(
    console: Console, rounds: list[Round], terms: Terms, output: Path, given: tuple[str, Reach] | None
) -> int:
    began_at = time.monotonic()
    logs = output / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    results: list[Result] = []
    with journal_in(output / "requests.jsonl") as journal:
        async with prepared(
            logs, small_disks=in_namespace(), library=_library(output), given=given
        ) as ground:
            store = await asyncio.to_thread(report.store_of, ground.dsn)
            console.print(f"ready after {time.monotonic() - began_at:.0f} s; {store}")

            def told(result: Result) -> None:
                results.append(result)
                report.show_round(console, result)
                report.written(output / "chaos.json", report.document(results, terms, store, ground.slots))

            deadline = began_at + terms.minutes * 60 - CLOSING_SECONDS
            await campaign.run(ground, journal, rounds, terms.seed, deadline, told)
            closing = await asyncio.to_thread(oracle.wrong_at_the_end, ground.dsn)
            report.show(console, results, terms.seed, ground.slots)
    if closing:
        console.print(f"[red]over all rounds:[/red] {closing}")
    failed = bool(closing) or any(result.failures for result in results)
    console.print(
        f"written: {output}; the same again: --seed {terms.seed}" + ("" if failed else "; nothing was lost")
    )
    return int(failed)


if __name__ == "__main__":
    app()
