"""The reference pages that are made from the code: docs/settings.md and docs/metrics.md.

``python -m deploy.reference`` writes them; a test fails when they are not what the code says.
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter

from deploy.local.settings import LocalSettings
from schema import metrics, settings

DOCS = Path(__file__).parent.parent / "docs"

_PROCESSES: dict[str, type[settings.SettingsGroup]] = {
    "gateway": settings.GatewaySettings,
    "writer": settings.WriterSettings,
    "query API": settings.ApiSettings,
    "agent": settings.AgentSettings,
    "weir up": LocalSettings,
}
_METRICS = {
    "Every HTTP door": metrics.DoorMetrics,
    "Gateway": metrics.GatewayMetrics,
    "Writer": metrics.WriterMetrics,
    "Query API": metrics.ApiMetrics,
    "Live feed (query API)": metrics.LiveMetrics,
    "Agent": metrics.AgentMetrics,
}


def settings_page() -> str:
    """Every setting once: its variable, default, meaning and the processes that read it."""
    readers: dict[str, list[str]] = {}
    for process, group in _PROCESSES.items():
        for name in group.model_fields:
            readers.setdefault(name, []).append(process)
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable, read once when a process starts. A value out of bounds",
        "stops the process with a message that names it. Sizes are bytes, times are seconds.",
        "",
        "| variable | default | meaning | read by |",
        "|---|---|---|---|",
    ]
    for name, processes in readers.items():
        group = next(group for group in _PROCESSES.values() if name in group.model_fields)
        field = group.model_fields[name]
        default = shown(field.default)
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `WEIR_{name.upper()}` | {default} | {meaning} | {', '.join(processes)} |")
    return "\n".join(lines) + "\n"


def shown(default: object) -> str:
    """A default as it would be written into the environment."""
    if isinstance(default, dict):
        written = TypeAdapter(dict[str, object]).dump_json(default, exclude_defaults=True).decode()
        return f"`{written}`"
    if default is None or default == "":
        return "none" if default is None else "empty"
    return f"`{default}`"


def metrics_page() -> str:
    """Every metric: its name as Prometheus shows it, type, labels and meaning."""
    lines = [
        "# Metrics",
        "",
        "Each process serves its own at `/metrics`. Labels have few, known values, none of them a caller's.",
    ]
    for title, group in _METRICS.items():
        registry = CollectorRegistry()
        made = group(registry)
        lines += ["", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        for metric in vars(made).values():
            (family,) = metric.collect()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(metric._labelnames) or "none"  # noqa: SLF001 - nothing public says it
            lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both pages."""
    (DOCS / "settings.md").write_text(settings_page())
    (DOCS / "metrics.md").write_text(metrics_page())


if __name__ == "__main__":
    main()
