"""What a person sees of a stack that comes up, runs and goes down.

Neighbours: `deploy.cli.up` feeds it with the supervisor's reports, or with what the state file says of them.
Guarantee: lines to paste are never wrapped or framed, whatever the width of the terminal; without a terminal
everything is plain text, one line at a time.
"""

import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape

from deploy.local.credentials import CREDENTIALS_FILE, Credentials
from deploy.local.state import Standing
from deploy.local.supervisor import Report
from deploy.local.titles import title

# An event that the agent sends every few seconds, on every machine.
AGENT_EVENT = "system.load"


def called(command: str) -> str:
    """A command of `weir` as it is typed here: by its path where the shell does not find it by its name."""
    program = sys.argv[0]
    named = shutil.which("weir") is not None or Path(program).name != "weir"
    return f"{'weir' if named else program} {command}"


class Progress:
    """Prints what changes, once, with the time since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._ready_before: set[str] = set()
        self._up = False
        self._spinner = console.status(f"[dim]Starting; {escape(called('logs -f'))} shows more[/dim]")

    def __enter__(self) -> Self:
        """Show that something goes on, where there is a terminal to show it on."""
        if self._console.is_terminal:
            self._spinner.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._spinner.stop()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def up(self) -> None:
        """From now on a start is a restart, and told with the time of day."""
        self._spinner.stop()
        self._up = True

    def report(self, report: Report) -> None:
        """Show a report, if it is news."""
        line = self._line(title(report.name), report)
        if line is not None:
            self._console.print(line, highlight=False, soft_wrap=True)
        # On a terminal a line of a log is worth a line; elsewhere somebody may search in it.
        whole = not self._console.is_terminal
        for words in report.last_words:
            self._console.print(
                f"      [dim]│ {escape(words)}[/dim]",
                highlight=False,
                soft_wrap=whole,
                no_wrap=True,
                overflow="ellipsis",
            )

    def _line(self, shown: str, report: Report) -> str | None:
        when = f"{datetime.now().astimezone():%H:%M:%S}" if self._up else f"{self.seconds:6.1f} s"
        text = escape(report.text)
        match report.standing:
            case Standing.READY:
                again = " again" if report.name in self._ready_before else ""
                self._ready_before.add(report.name)
                return f"[green]✓[/green] {when}  {shown} is ready{again}"
            case Standing.RESTARTING:
                return f"[yellow]![/yellow] {when}  {shown} {text}"
            case Standing.CRASH_LOOP:
                return f"[red]✗[/red] {when}  {shown} is in a crash loop: it {text}"
            case Standing.STOPPING if text:
                return f"[yellow]![/yellow] {when}  {shown}: {text}"
            case Standing.STOPPED:
                how = text or "has ended"
                return f"[dim]·[/dim] {when}  {shown} {how}"
            case _:
                return None


def show_last_screen(
    console: Console, credentials: Credentials, home: Path, *, seconds: float | None
) -> None:
    """Addresses, credentials, and lines to paste."""
    took = "" if seconds is None else f" after {seconds:.1f} s"
    user, bucket = credentials.user, credentials.bucket
    console.print()
    console.rule(f"[bold green]Weir is up{took}")
    rows = (
        ("live chart", f"{credentials.api}/watch#bucket={bucket.id}&token={user.access_token}"),
        ("query API", credentials.api),
        ("its docs", f"{credentials.api}/docs"),
        ("gateway", credentials.gateway),
        ("bucket", bucket.id),
        ("ingest key", bucket.ingest_key),
        ("read key", bucket.read_key),
        ("user", user.email),
        ("access token", user.access_token),
    )
    for name, value in rows:
        console.print(f"  [bold]{name:<13}[/bold] {value}", highlight=False, soft_wrap=True)
    kept = f"Until {called('down')}, all of this is in {home / CREDENTIALS_FILE}"
    console.print(f"  [dim]{escape(kept)}[/dim]", highlight=False, soft_wrap=True)
    for purpose, command in paste_lines(credentials):
        console.print(f"\n[bold]{purpose}[/bold]", highlight=False)
        console.print(command, highlight=False, soft_wrap=True, markup=False)
    console.print()


def paste_lines(credentials: Credentials) -> list[tuple[str, str]]:
    """What to try first: a title, and a shell command that works as it stands in bash and sh.

    The first keeps the receipt that it is given in a variable of the shell, for the second.
    """
    bucket = credentials.bucket
    json_type = "-H 'Content-Type: application/json'"
    key = f"-H 'X-Api-Key: {bucket.ingest_key}'"
    bearer = f"-H 'Authorization: Bearer {credentials.user.access_token}'"
    events_url = f"{credentials.api}/api/bucket/{bucket.id}/data/events"
    return [
        (
            "Send an event:",
            f"""ANSWER=$(curl -sS {credentials.gateway}/v1/events {key} {json_type} \\
  -d '{{"name": "hello", "app": "shell", "data": {{"answer": 42}}}}'); echo "$ANSWER\"""",
        ),
        (
            "Read it back; the receipt makes the read wait until it is stored:",
            f"""RECEIPT=$(printf %s "$ANSWER" | sed 's/.*"receipt": *"\\([^"]*\\)".*/\\1/')
curl -sS {events_url} {bearer} {json_type} -H "X-Weir-Receipt: $RECEIPT" \\
  -d '{{"event_name": "hello", "limit": 1}}'; echo""",
        ),
        (
            "The histogram of this machine's load readings, which the agent sends:",
            f"""curl -sS {events_url}/stats {bearer} {json_type} \\
  -d '{{"event_name": "{AGENT_EVENT}", "interval": "minute", "days": 1}}'; echo""",
        ),
    ]
