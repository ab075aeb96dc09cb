"""The figures of a campaign as Markdown, and the place of a page where they belong. Pure."""

from __future__ import annotations

from typing import Any

_MIB = 1024 * 1024
_COLUMNS = {
    "rounds": "rounds",
    "injected": "times injected",
    "requests": "requests",
    "acknowledged": "acknowledged",
    "stored": "stored",
    "repeated": "sent again",
    "refused": "refused",
    "twice": "twice",
    "lost": "lost",
}


def figures(found: dict[str, Any]) -> str:
    """What ``report.document`` made, as a table and a few sentences."""
    machine, database = found["machine"], found["database"]
    gib = machine["memory_bytes"] / 1024**3
    load = machine["load_average"][0]
    lines = [
        f"{found['ended_at'][:10]}, commit {found['commit']}, seed {found['seed']}:",
        f"{found['minutes']:g} minutes on {machine['cores']} cores with {gib:.0f} GiB;",
        f"TimescaleDB {database['timescaledb']} ({database['edition']} edition);",
        f"load average {load:.1f} at its end. From *acknowledged* on it is events that are counted;",
        "*recovery* is the longest of the fault's rounds.",
        "",
        "| fault | " + " | ".join(_COLUMNS.values()) + " | recovery | verdict |",
        "|---|" + "---:|" * (len(_COLUMNS) + 1) + "---|",
    ]
    for line in found["faults"]:
        cells = " | ".join(f"{line[name]:,}" for name in _COLUMNS)
        state = f"{line['failures']} failed" if line["failures"] else "held"
        lines.append(f"| {line['fault']} | {cells} | {line['recovery_seconds']:.1f} s | {state} |")
    peaks = ", ".join(f"{name} {size // _MIB} MiB" for name, size in found["peak_bytes"].items())
    lines += ["", f"Memory at most: {peaks}."]
    lines += [f"Left out: {name} ({reason})." for name, reason in found["left_out"].items()]
    return "\n".join(lines)


def marks(edition: str) -> tuple[str, str]:
    """Where on the page the figures of an edition begin and end."""
    begin, end = (f"<!-- figures of the {edition} edition: {side} -->" for side in ("begin", "end"))
    return begin, end


def filled(page: str, found: dict[str, Any]) -> str:
    """The page with the figures of this campaign in its edition's place."""
    opening, closing = marks(found["database"]["edition"])
    before, begin, rest = page.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"the page has no place for figures: {opening} and {closing}")
    return f"{before}{begin}\n{figures(found)}\n{end}{after}"
