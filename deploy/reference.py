"""The reference pages that are made from the code: docs/settings.md and docs/metrics.md.

``python -m deploy.reference`` writes them; a test fails when they are not what the code says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

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
_OTHER_SETTING = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_METRICS = {
    "Every HTTP door": metrics.DoorMetrics,
    "Gateway": metrics.GatewayMetrics,
    "Writer": metrics.WriterMetrics,
    "Query API": metrics.ApiMetrics,
    "Live feed (query API)": metrics.LiveMetrics,
    "Agent": metrics.AgentMetrics,
}


def settings_page() -> str:
    """Every setting once: its variable, default, what it may be, meaning and the processes that read it."""
    readers: dict[str, list[str]] = {}
    for process, group in _PROCESSES.items():
        for name in group.model_fields:
            readers.setdefault(name, []).append(process)
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable, read once when a process starts. A value out of bounds",
        "stops the process with a message that names it. Sizes are bytes, times are seconds. A default that",
        "only `weir up` has stands beside the process's; a server without an address there it starts itself.",
        "",
        "| variable | default | may be | meaning | read by |",
        "|---|---|---|---|---|",
    ]
    for name, processes in readers.items():
        group = next(group for group in _PROCESSES.values() if name in group.model_fields)
        field = group.model_fields[name]
        default = shown(field.default)
        own = LocalSettings.model_fields.get(name)
        if own is not None and own.default != field.default:
            default += f"; `weir up`: {shown(own.default)}"
        meaning = _OTHER_SETTING.sub(
            lambda found: f"`WEIR_{found[0].upper()}`" if found[0] in readers else found[0],
            (field.description or "").replace("|", "\\|"),
        )
        lines.append(
            f"| `WEIR_{name.upper()}` | {default} | {allowed(field)} | {meaning} | {', '.join(processes)} |"
        )
    return "\n".join(lines) + "\n"


def shown(default: object) -> str:
    """A default as it would be written into the environment."""
    if isinstance(default, dict):
        written = TypeAdapter(dict[str, object]).dump_json(default, exclude_defaults=True).decode()
        return f"`{written}`"
    if default is None or default == "":
        return "none" if default is None else "empty"
    return f"`{default}`"


def allowed(field: FieldInfo) -> str:
    """The values that a setting has, or its bounds; empty where any will do."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if field.annotation is bool:
        return "`True`, `False`"
    least, above, most = (
        next((f"{getattr(one, bound)}" for one in field.metadata if hasattr(one, bound)), "")
        for bound in ("ge", "gt", "le")
    )
    lower = f"at least {least}" if least else f"above {above}" if above else ""
    if least and most:
        return f"{least} to {most}"
    return ", ".join(part for part in (lower, f"at most {most}" if most else "") if part)


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
