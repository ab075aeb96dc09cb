"""``python -m tests.bench.plots JSON …``: draws what the bench wrote, as SVG; the same JSON, the same bytes.

Several files are read as one: of figures with the same title the last one counts. matplotlib is an extra of
its own (``make plots`` installs it).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer

mpl.use("svg")
from matplotlib import pyplot as plt

from tests.bench.pages import Figures, growth_points, read, with_goals

_COLOURS = {"gateway": "#4477aa", "broker": "#ccbb44", "writer": "#228833", "database": "#aa3377"}
_DISK_PARTS = ("rows", "events_identity", "events_name", "events_device", "rollups")
_DISK_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa3377")
_STYLE = {
    # Texts stay texts, and element names do not change from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "weir",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def goals(figures: Figures) -> Any:
    """Each figure with a goal, as a share of its aim; the must beside it."""
    wanted = with_goals(figures)
    if not wanted:
        return None
    drawing, axes = plt.subplots(figsize=(7.5, 0.34 * len(wanted) + 0.9))
    for place, figure in enumerate(reversed(wanted)):
        less_is_better = figure["must"] > figure["aim"]
        values = [figure["value"]["median"], figure["must"]]
        shares = [figure["aim"] / value if less_is_better else value / figure["aim"] for value in values]
        colour = "#228833" if shares[0] >= 1 else "#4477aa" if shares[0] >= shares[1] else "#cc3311"
        axes.barh(place, shares[0], color=colour, height=0.6)
        axes.plot([shares[1]] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    axes.axvline(1, color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(wanted)), [figure["title"] for figure in reversed(wanted)])
    axes.set_xlabel("share of the aim (dashed); the black line is the must")
    return drawing


def growth(figures: Figures) -> Any:
    """CPU microseconds an event by process, at every point of every axis, beside those of raw COPY then."""
    wanted = growth_points(figures)
    if not wanted:
        return None
    drawing, axes = plt.subplots(figsize=(7.5, 0.3 * len(wanted) + 1.2))
    for place, figure in enumerate(reversed(wanted)):
        start = 0.0
        for name, colour in _COLOURS.items():
            used = figure["cpu_us"].get(name, 0.0)
            axes.barh(place, used, left=start, color=colour, height=0.65, label=name if place == 0 else None)
            start += used
        raw = figure["facts"].get("raw_us")
        if raw is not None:
            axes.plot([raw] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    axes.set_yticks(
        range(len(wanted)), [figure["title"].removeprefix("growth: ") for figure in reversed(wanted)]
    )
    axes.set_xlabel(
        "CPU microseconds an event, HTTP to visible; the black line: raw COPY in the same minutes"
    )
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return drawing


def disk(figures: Figures) -> Any:
    """Bytes an event by what they are spent on."""
    wanted = [figure for title, figure in figures.items() if title.startswith("disk: ")]
    if not wanted:
        return None
    drawing, axes = plt.subplots(figsize=(7.5, 0.5 * len(wanted) + 1.2))
    for place, figure in enumerate(reversed(wanted)):
        facts = figure["facts"]
        rollups = sum(
            taken for name, taken in facts.items() if name.startswith("event_counts") and taken is not None
        )
        parts = {name: facts.get(f"{name}_bytes", 0.0) for name in _DISK_PARTS} | {"rollups": rollups}
        if not any(parts.values()):
            # Compressed: nothing but the whole is known.
            parts["rows"] = figure["value"]["median"]
        start = 0.0
        for (name, taken), colour in zip(parts.items(), _DISK_COLOURS, strict=True):
            label = name if place == len(wanted) - 1 else None
            axes.barh(place, taken, left=start, color=colour, height=0.6, label=label)
            start += taken
    axes.set_yticks(
        range(len(wanted)), [figure["title"].removeprefix("disk: ") for figure in reversed(wanted)]
    )
    axes.set_xlabel("bytes an event")
    axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return drawing


def main(
    results: Annotated[list[Path], typer.Argument(help="JSON files of the bench.")],
    output: Annotated[Path, typer.Option(help="Folder of the plots.")] = Path("docs/plots"),
) -> None:
    """Draw goals.svg, growth.svg and disk.svg, those of which there are figures."""
    mpl.rcParams.update(_STYLE)
    figures = read(results)
    output.mkdir(parents=True, exist_ok=True)
    for draw in (goals, growth, disk):
        drawing = draw(figures)
        if drawing is None:
            continue
        path = output / f"{draw.__name__}.svg"
        drawing.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
        # Ends of lines are no content: without blanks there, git has nothing to say.
        text = path.read_text(encoding="utf-8")
        path.write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()), encoding="utf-8")
        plt.close(drawing)
        print(path, file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
