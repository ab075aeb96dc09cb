"""The page of guarantees has a place for figures, and figures fit into it, as often as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.page import figures, filled, marks

PAGE = Path(__file__).parents[3] / "docs/GUARANTEES.md"


def document(lost: int, edition: str = "apache") -> dict[str, Any]:
    counts = ("rounds", "injected", "requests", "acknowledged", "stored", "repeated", "refused", "twice")
    line = {"fault": "all", **dict.fromkeys(counts, 1234), "lost": lost, "recovery_seconds": 1.25}
    return {
        "ended_at": "2026-01-31T12:00:00+00:00",
        "commit": "abc",
        "seed": 7,
        "minutes": 30.0,
        "machine": {"cores": 2, "memory_bytes": 8 * 1024**3, "load_average": (1.0, 1.0, 1.0)},
        "database": {"edition": edition, "timescaledb": "2.0.1", "postgresql": "17.1"},
        "faults": [{**line, "failures": int(lost > 0)}],
        "peak_bytes": {"gateway-0": 64 * 1024**2},
        "left_out": {"Kafka's disk full": "not permitted"},
    }


def test_figures_replace_those_that_were_there() -> None:
    page = PAGE.read_text()
    once = filled(page, document(0))
    assert filled(once, document(3)) == filled(page, document(3))
    row = next(line for line in once.splitlines() if line.startswith("| all |"))
    assert row == "| all | 1,234 | 1,234 | 1,234 | 1,234 | 1,234 | 1,234 | 1,234 | 1,234 | 0 | 1.2 s | held |"
    assert "Left out: Kafka's disk full (not permitted)." in once
    assert "TimescaleDB 2.0.1 (apache edition);" in once


def test_each_edition_has_its_own_place() -> None:
    page = PAGE.read_text()
    both = filled(filled(page, document(0)), document(3, "community"))
    assert both == filled(filled(page, document(3, "community")), document(0))
    places = [both.index(mark) for edition in ("apache", "community") for mark in marks(edition)]
    assert places == sorted(places)
    assert both.count("| all |") == 2


def test_a_loss_is_said() -> None:
    assert "| 3 | 1.2 s | 1 failed |" in figures(document(3))


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        filled("nothing", document(0))


def test_every_family_of_faults_is_on_the_page() -> None:
    page = PAGE.read_text()
    families = {fault.row for fault in FAULTS}
    said = {row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")}
    assert families <= said
