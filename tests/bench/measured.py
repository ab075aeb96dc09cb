"""``python -m tests.bench.measured``: the tables of docs/queries-measured.md anew, from ``bench.json``.

What stands between the page's two marks is replaced. The long plans go beside the JSON, into ``plans.txt``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

PAGE = Path("docs/queries-measured.md")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

# Indexes of the credential's and the planner's small tables.
_ASIDE = ("api_keys", "users", "workspace_members", "bucket_members", "late_hours")

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def measured(
    source: Annotated[Path, typer.Argument(help="What the bench wrote.")] = Path("bench-results/bench.json"),
    page: Annotated[Path, typer.Argument(help="The page to renew.")] = PAGE,
) -> None:
    """Put the figures of the part `queries` into the page."""
    found = orjson.loads(source.read_bytes())
    figures = [figure for figure in found["figures"] if "kind" in figure["facts"]]
    if not figures:
        raise typer.BadParameter(f"{source} has no figures of the part queries")
    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(before + BEGIN + "\n" + tables(found, figures) + END + after, encoding="utf-8")
    plans = source.with_name("plans.txt")
    plans.write_text(
        "\n".join(f"=== {f['facts']['kind']}\n\n{f['facts']['plans']}" for f in figures), encoding="utf-8"
    )
    print(f"renewed: {page}; plans: {plans}")


def tables(found: dict[str, Any], figures: list[dict[str, Any]]) -> str:
    """Markdown: how it was measured, the times, what was read."""
    machine, versions = found["machine"], found["versions"]
    load = ", ".join(f"{one:.1f}" for one in machine["load_average"])
    asked = figures[0]["facts"]
    how = (
        f"{asked['events']:,} events, each kind asked {asked['asked']} times,"
        f" {found['ended_at'][:16].replace('T', ' ')} UTC, {asked['edition']} edition,"
        f" commit {versions['commit']}, {machine['cores']} cores, load averages at the end {load}."
    )
    return "\n".join([how, "", *_times(figures), "", *_readings(figures)]) + "\n"


def _times(figures: list[dict[str, Any]]) -> list[str]:
    rows = [["question", "p50 ms", "p99 ms", "most ms", "goal ms", "p50 and p99 of eight at once", "bytes"]]
    for figure in figures:
        facts, goal = figure["facts"], figure["must"]
        over = goal is not None and facts["p99_ms"] > goal
        crowd = [facts[name] for name in ("p50_ms_at_eight", "p99_ms_at_eight") if name in facts]
        rows.append(
            [
                facts["kind"],
                _ms(facts["p50_ms"]),
                _ms(facts["p99_ms"]) + (" **over**" if over else ""),
                _ms(facts["most_ms"]),
                "" if goal is None else f"{goal:g}",
                ", ".join(map(_ms, crowd)),
                f"{facts['largest_bytes']:,}",
            ]
        )
    return _table(rows)


def _readings(figures: list[dict[str, Any]]) -> list[str]:
    rows = [
        ["question", "statements", "answered", "rows read", "pages", "planning ms", "indexes", "read whole"]
    ]
    for figure in figures:
        facts = figure["facts"]
        numbers = [f"{facts[name]:,}" for name in ("statements", "rows_answered", "rows_read", "buffers")]
        scans = [_scans(facts["indexes"]), _scans(facts["sequential"])]
        rows.append([facts["kind"], *numbers, _ms(facts["planning_ms"]), *scans])
    return _table(rows)


def _table(rows: list[list[str]]) -> list[str]:
    rows.insert(1, ["---"] * len(rows[0]))
    return [f"| {' | '.join(row)} |" for row in rows]


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _scans(scans: dict[str, int]) -> str:
    return ", ".join(
        f"{name}{f' ({count})' if count > 1 else ''}"
        for name, count in sorted(scans.items(), key=lambda pair: -pair[1])
        if not name.endswith("_pkey") and not name.startswith(_ASIDE)
    )


if __name__ == "__main__":
    app()
