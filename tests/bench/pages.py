"""``python -m tests.bench.pages JSON …``: puts the bench's figures into the tables of docs/.

A table stands between ``<!-- bench: name -->`` and ``<!-- end -->``; what is between is replaced, all else is
people's own. Several files are read as one: of figures with the same title the last one counts. A table of
which the files have no figure stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

Figures = dict[str, dict[str, Any]]
_PROCESSES = ("gateway", "broker", "writer", "database")
_TABLE = re.compile(r"(<!-- bench: (?P<name>[a-z]+) -->\n)(?P<old>.*?)(<!-- end -->)", re.DOTALL)
_PAGES = (Path("docs/PERFORMANCE.md"), Path("docs/sizing.md"))
_EVENTS_A_SECOND = (100, 1_000, 10_000, 50_000, 100_000, 1_000_000)
# They have a page of their own.
_GOALS_OF_QUESTIONS = ("query", "query_hours")
# What is planned for: a core is not used up, and a day has hours that are busier than others.
CORE_SHARE = 0.6
CELL_EVENTS_A_SECOND = 50_000
_DAY_SECONDS = 86_400


def read(paths: Sequence[Path]) -> Figures:
    """Figures by title, each with the file's own facts under ``run``."""
    figures: Figures = {}
    for path in paths:
        content = orjson.loads(path.read_bytes())
        for figure in content["figures"]:
            run = f"{content['began_at'][:16]}, {content['versions'].get('commit') or 'no commit'}"
            figures[figure["title"]] = {**figure, "run": run}
    return figures


def goals(figures: Figures) -> list[str]:
    """Every figure that has a goal, but those of questions: they have a page of their own."""
    return _table(
        ("figure", "median", "least to most", "must", "aim", "reached", "rounds thrown away"),
        [
            (
                figure["title"],
                _number(figure["value"]["median"]),
                f"{_number(figure['value']['least'])} to {_number(figure['value']['most'])}",
                _number(figure["must"]),
                _number(figure["aim"]),
                _reached(figure),
                str(figure["thrown_away"] or ""),
            )
            for figure in with_goals(figures)
        ],
    )


def with_goals(figures: Figures) -> list[dict[str, Any]]:
    """Those of the bench's own parts, in their order."""
    return [
        figure
        for figure in figures.values()
        if figure["aim"] is not None and figure["goal"] not in _GOALS_OF_QUESTIONS
    ]


def sides(figures: Figures) -> list[str]:
    """Ratios without a goal."""
    wanted = [
        figure for figure in figures.values() if figure["aim"] is None and figure["unit"] in ("ratio", "s")
    ]
    return _table(
        ("figure", "median", "least to most"),
        [
            (
                figure["title"],
                _number(figure["value"]["median"]),
                f"{_number(figure['value']['least'])} to {_number(figure['value']['most'])}",
            )
            for figure in wanted
        ],
    )


def cost(figures: Figures) -> list[str]:
    """CPU microseconds an event by process, of the ratios."""
    wanted = [figure for figure in figures.values() if figure["cpu_us"] and figure["unit"] == "ratio"]
    return _table(
        ("figure", *_PROCESSES, "together"),
        [(figure["title"], *_by_process(figure)) for figure in wanted],
    )


def growth(figures: Figures) -> list[str]:
    """Every point of every axis."""
    return _table(
        (
            *("", *_PROCESSES, "together", "raw COPY", "together ÷ raw COPY"),
            *("events/s", "gateways, writers: resident MiB"),
        ),
        [
            (
                figure["title"].removeprefix("growth: "),
                *_by_process(figure),
                *_by_raw_copy(figure["facts"]),
                f"{figure['rate']['median']:,.0f}",
                f"{figure['facts']['gateway_mib']:.0f}, {figure['facts']['writer_mib']:.0f}",
            )
            for figure in growth_points(figures)
        ],
    )


def _by_raw_copy(facts: dict[str, Any]) -> tuple[str, str]:
    if "raw_us" not in facts:
        return "", ""
    return f"{facts['raw_us']:.1f}", _number(facts["ratio_to_raw"]["median"])


def growth_points(figures: Figures) -> list[dict[str, Any]]:
    """The points of the growth part: axis after axis as they come, each by its places."""
    points = [figure for title, figure in figures.items() if title.startswith("growth: ")]
    axes = list(dict.fromkeys(point["facts"]["axis"] for point in points))
    return sorted(points, key=lambda point: (axes.index(point["facts"]["axis"]), point["facts"]["place"]))


def disk(figures: Figures) -> list[str]:
    """Bytes an event by what they are spent on."""
    wanted = [figure for title, figure in figures.items() if title.startswith("disk: ")]
    lines = []
    for figure in wanted:
        facts = figure["facts"]
        parts = [name for name in facts if name.endswith("_bytes")]
        lines.append((f"**{figure['title']}**", f"**{figure['value']['median']:.0f}**"))
        lines += [
            (name.removesuffix("_bytes").replace("_", " "), f"{facts[name]:.0f}")
            for name in parts
            if facts[name] is not None
        ]
    return _table(("", "bytes"), lines)


def memory(figures: Figures) -> list[str]:
    """Most resident memory by phase."""
    wanted = [figure for title, figure in figures.items() if title.endswith("most resident MiB")]
    return _table(
        ("process", "at the start", "with events", "broker frozen", "database frozen"),
        [
            (
                figure["title"].partition(":")[0],
                *(
                    f"{figure['facts'].get(f'{phase}_mib', 0):.0f}"
                    for phase in ("start", "events", "broker frozen", "database frozen")
                ),
            )
            for figure in wanted
        ],
    )


def sizing(figures: Figures) -> list[str]:
    """From events a second to processes, partitions and disk; at the cost with most events stored before."""
    way = figures.get("HTTP to visible ÷ raw COPY")
    stored = next(
        (f for title, f in figures.items() if title.startswith("disk: bytes an event, apache")), None
    )
    if way is None or stored is None:
        return []
    grown = [point for point in growth_points(figures) if point["facts"]["axis"] == "stored"]
    used = (grown[-1] if grown else way)["cpu_us"]
    lines = []
    for rate in _EVENTS_A_SECOND:
        cells = max(1, -(-rate // CELL_EVENTS_A_SECOND))
        a_cell = rate / cells
        cores = {name: a_cell * used[name] / 1e6 / CORE_SHARE for name in _PROCESSES}
        gateways, writers = (max(1, _ceiling(cores[name])) for name in ("gateway", "writer"))
        lines.append(
            (
                f"{rate:,}",
                str(cells),
                str(gateways),
                str(writers),
                str(max(8, 4 * writers)),
                f"{cores['database']:.1f}",
                f"{cores['broker']:.1f}",
                f"{a_cell * stored['value']['median'] * _DAY_SECONDS / 1e9:,.1f}",
                f"{a_cell * stored['facts']['wal_bytes'] / 1e6:,.1f}",
            )
        )
    heads = (
        *("events/s", "cells", "gateways", "writers", "partitions", "database cores", "broker cores"),
        *("GB a day", "WAL MB/s"),
    )
    return _table(heads, lines)


TABLES: dict[str, Callable[[Figures], list[str]]] = {
    table.__name__: table for table in (goals, sides, cost, growth, disk, memory, sizing)
}


def filled(text: str, figures: Figures) -> str:
    """A page with its tables made anew. Raises KeyError for a name that is no table's."""

    def replaced(found: re.Match[str]) -> str:
        lines = TABLES[found["name"]](figures)
        content = "".join(f"{line}\n" for line in lines) if lines else found["old"]
        return f"{found[1]}{content}{found[4]}"

    return _TABLE.sub(replaced, text)


def _by_process(figure: dict[str, Any]) -> list[str]:
    used = [figure["cpu_us"].get(name, 0.0) for name in _PROCESSES]
    return [*(f"{value:.2f}" if value else "" for value in used), f"{sum(used):.1f}"]


def _reached(figure: dict[str, Any]) -> str:
    median, must, aim = figure["value"]["median"], figure["must"], figure["aim"]
    if figure["noisy"]:
        return "noisy"
    less_is_better = must > aim
    if median <= aim if less_is_better else median >= aim:
        return "aim"
    return "must" if figure["passed"] else "**short**"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    if not lines:
        return []
    rows = (heads, ["---"] + ["---:"] * (len(heads) - 1), *lines)
    return [f"| {' | '.join(row)} |" for row in rows]


def _ceiling(value: float) -> int:
    return -int(-value // 1)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def main(
    results: Annotated[list[Path], typer.Argument(help="JSON files of the bench.")],
) -> None:
    """Fill the tables of docs/PERFORMANCE.md and docs/sizing.md."""
    figures = read(results)
    for page in _PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), figures), encoding="utf-8")
        typer.echo(page)


if __name__ == "__main__":
    typer.run(main)
