"""Fetches both servers of the local stack, side by side, and shows how far each has come.

Neighbours: `make setup` runs this file as a module; `kafka` and `timescale` do the work.
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


def install_all(progress: ProgressCallback) -> list[Path]:
    """Install Kafka and the database at the same time; returns their folders.

    Raises:
        Unavailable: one of them could not be had; the other is finished first.
    """
    parts: list[Callable[[ProgressCallback], Path]] = [kafka.install, timescale.install]
    with ThreadPoolExecutor(len(parts), thread_name_prefix="install") as pool:
        return [answer.result() for answer in [pool.submit(part, progress) for part in parts]]


def main() -> int:
    """Install with a bar for each part on a terminal, and with a line at its end elsewhere."""
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

            install_all(show)
    except WeirError as error:
        console.print(error.message, style="red", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
