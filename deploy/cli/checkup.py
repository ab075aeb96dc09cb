"""`weir doctor`: the findings, a line each; what helps stands below what is not well.

Neighbours: `deploy.local.doctor` looks.
"""

from rich.console import Console
from rich.markup import escape

from deploy.local.doctor import examine
from deploy.local.paths import local_paths
from deploy.local.settings import LocalSettings


def show_checkup() -> int:
    """Print every finding; returns 1 if something is not well, else 0."""
    console = Console()
    troubles = 0
    for finding in examine(LocalSettings(), local_paths()):
        mark = "[green]ok     [/green]" if finding.well else "[red]problem[/red]"
        console.print(
            f"{mark}  {finding.subject:<10}  {escape(finding.text)}", highlight=False, soft_wrap=True
        )
        for line in finding.remedy.splitlines():
            console.print(
                f"         {'':<10}  [bold]→ {escape(line)}[/bold]", highlight=False, soft_wrap=True
            )
        troubles += not finding.well
    console.print(f"\n{troubles} problem{'s' if troubles != 1 else ''}" if troubles else "\nAll is well.")
    return 1 if troubles else 0
