"""`weir logs`: the last lines of each log, and with --follow what comes after them.

Neighbours: `deploy.local.child` and the servers write the logs; `deploy.local.rotation` turns them.
Guarantee: a log that is turned while it is followed loses no line; a log that comes later is followed from
its beginning.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from deploy.local.paths import local_paths
from deploy.local.rotation import last_lines, log_path
from deploy.local.titles import name_of, title
from schema.errors import Invalid

POLL_SECONDS = 0.2
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")


def show_logs(process: str, *, follow: bool, lines: int) -> int:
    """Print the logs of one process, by its title or its name, or of all; each line behind the title."""
    home = local_paths().home
    folder = home / "logs"
    known = names(folder)
    if process and name_of(process) not in known:
        raise Invalid(
            f"there is no log of {process}; there are: {', '.join(map(title, known)) or 'none yet'}"
        )
    chosen = [name_of(process)] if process else known
    if not chosen and not follow:
        raise Invalid(f"there are no logs in {folder} yet: weir up makes them")
    console = Console(soft_wrap=True, highlight=False)
    tails = {name: LogTail(log_path(home, name)) for name in chosen}
    for name, tail in tails.items():
        tail.skip_to_end()
        for line in last_lines(log_path(home, name), lines) if lines else []:
            show_line(console, name, line, width(tails))
    if not follow:
        return 0
    try:
        while True:
            if not process:
                for name in names(folder):
                    tails.setdefault(name, LogTail(log_path(home, name)))
            for name, tail in tails.items():
                for line in tail.new_lines():
                    show_line(console, name, line, width(tails))
            sys.stdout.flush()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        return 0


def names(folder: Path) -> list[str]:
    """The processes that have a log, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.log"))


def width(tails: dict[str, "LogTail"]) -> int:
    """The length of the longest title."""
    return max((len(title(name)) for name in tails), default=0)


def show_line(console: Console, name: str, line: str, title_width: int) -> None:
    """Print one line behind its process's title, whose colour is the same in every run."""
    colour = COLOURS[sum(name.encode()) % len(COLOURS)]
    console.print(Text.assemble((f"{title(name):<{title_width}} ", colour), line))


class LogTail:
    """Follows one log across its turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._partial = b""

    def skip_to_end(self) -> None:
        """Leave out what is there already."""
        if self._open():
            assert self._file is not None
            self._file.seek(0, 2)

    def new_lines(self) -> Iterator[str]:
        """The whole lines that came since the last call."""
        while self._open():
            assert self._file is not None
            turned = self._was_turned()
            chunk = self._file.read()
            *whole, self._partial = (self._partial + chunk).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole)
            if not turned:
                return
            # The old file was read to its end after it was put aside, so nothing more can come into it.
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return False
        return True

    def _was_turned(self) -> bool:
        assert self._file is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        then = os.fstat(self._file.fileno())
        return (now.st_ino, now.st_dev) != (then.st_ino, then.st_dev)
