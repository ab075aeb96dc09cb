"""Fetches both servers of the local stack, side by side, and shows how far each has come.

Neighbours: `make setup` runs this file as a module, `weir up` calls it; `kafka` and `timescale` do the work.
Guarantee: bounded by the bounds of the two; what is there already costs nothing.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from deploy.local import kafka, timescale
from deploy.local.downloads import Progress, ProgressCallback
from schema.errors import WeirError


def install_all(
    progress: ProgressCallback, *, kafka_wanted: bool = True, database_wanted: bool = True
) -> list[Path]:
    """Install Kafka and the database, or what is wanted of them, at the same time; returns their folders.

    Raises:
        Unavailable: one of them could not be had; the other is finished first.
    """
    parts: list[Callable[[ProgressCallback], Path]] = []
    if kafka_wanted:
        parts.append(kafka.install)
    if database_wanted:
        parts.append(timescale.install)
    with ThreadPoolExecutor(2, thread_name_prefix="install") as pool:
        return [answer.result() for answer in [pool.submit(part, progress) for part in parts]]


def show_installation(*, kafka_wanted: bool = True, database_wanted: bool = True) -> bool:
    """Install with a bar for each part on a terminal, and with a line at its end elsewhere.

    False: something could not be had, and why has been said.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[part]:<9}"),
        BarColumn(30),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    try:
        with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
            tasks: dict[str, TaskID] = {}

            def show(progress: Progress) -> None:
                if progress.part not in tasks:
                    tasks[progress.part] = bars.add_task("", total=1.0, part=progress.part)
                if console.is_terminal:
                    bars.update(
                        tasks[progress.part], description=progress.text, completed=progress.fraction or 0.0
                    )
                elif progress.fraction in (0.0, 1.0):
                    console.print(progress.text)

            install_all(show, kafka_wanted=kafka_wanted, database_wanted=database_wanted)
    except WeirError as error:
        console.print(error.message, style="red", markup=False, highlight=False)
        return False
    return True


def main() -> int:
    """Install both; returns an exit code."""
    return 0 if show_installation() else 1


if __name__ == "__main__":
    sys.exit(main())
