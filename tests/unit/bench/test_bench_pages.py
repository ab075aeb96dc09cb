"""The documents' tables: made of the JSON's figures, and nothing else of a page touched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.pages import CELL_EVENTS_A_SECOND, CORE_SHARE, TABLES, filled, growth_points

CPU = {"gateway": 4.0, "broker": 2.0, "writer": 3.0, "database": 12.0}


def figure(title: str, median: float, **changes: Any) -> dict[str, Any]:
    value = {"median": median, "least": median - 0.1, "most": median + 0.1}
    plain = {
        "goal": None,
        "must": None,
        "aim": None,
        "passed": None,
        "noisy": False,
        "thrown_away": 0,
        "unit": "ratio",
    }
    return {"title": title, "value": value, "cpu_us": {}, "facts": {}, **plain, **changes}


WAY = figure("HTTP to visible ÷ raw COPY", 0.4, must=0.3, aim=0.5, passed=True, cpu_us=CPU)
DISK = figure("disk: bytes an event, apache edition", 500, unit="bytes", facts={"wal_bytes": 660.0})
FIGURES = {one["title"]: one for one in (WAY, DISK)}


def test_only_what_is_between_the_marks_is_replaced() -> None:
    page = "before\n<!-- bench: goals -->\nold\n<!-- end -->\nafter <!-- end -->\n"
    text = filled(page, FIGURES)
    assert text.startswith("before\n<!-- bench: goals -->\n| figure |")
    assert text.endswith("<!-- end -->\nafter <!-- end -->\n")
    assert "old" not in text
    assert "| HTTP to visible ÷ raw COPY | 0.4 | 0.3 to 0.5 | 0.3 | 0.5 | must |  |" in text
    assert filled(text, FIGURES) == text


def test_a_table_without_figures_stays() -> None:
    for name in TABLES:
        page = f"<!-- bench: {name} -->\nold\n<!-- end -->\n"
        assert filled(page, {}) == page
    with pytest.raises(KeyError):
        filled("<!-- bench: unknown -->\n<!-- end -->\n", {})


@pytest.mark.parametrize(
    ("median", "must", "aim", "word"),
    [(0.9, 0.6, 0.8, "aim"), (0.7, 0.6, 0.8, "must"), (0.5, 0.6, 0.8, "**short**"), (90, 250, 100, "aim")],
)
def test_each_verdict(median: float, must: float, aim: float, word: str) -> None:
    one = figure("f", median, must=must, aim=aim, passed=median >= must if aim > must else median <= must)
    assert f"| {word} |" in TABLES["goals"]({"f": one})[-1]


def test_sizing_is_the_arithmetic_that_the_page_tells() -> None:
    lines = {
        line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in TABLES["sizing"](FIGURES)
    }
    _, cells, gateways, writers, partitions, database, broker, day, log = lines["1,000,000"]
    a_cell = 1_000_000 / int(cells)
    assert a_cell <= CELL_EVENTS_A_SECOND
    assert int(gateways) == int(writers) == 1
    assert int(partitions) == 8
    assert float(database) == pytest.approx(a_cell * 12 / 1e6 / CORE_SHARE, abs=0.05)
    assert float(broker) == pytest.approx(a_cell * 2 / 1e6 / CORE_SHARE, abs=0.05)
    assert float(day.replace(",", "")) == pytest.approx(a_cell * 500 * 86_400 / 1e9, abs=0.05)
    assert float(log) == pytest.approx(a_cell * 660 / 1e6, abs=0.05)


def point(axis: str, place: float, **cpu: float) -> dict[str, Any]:
    return figure(
        f"growth: {axis} {place:,g}", sum(cpu.values()), facts={"axis": axis, "place": place}, cpu_us=cpu
    )


def test_points_of_several_files_stand_by_axis_and_place() -> None:
    points = [point("stored", 10, **CPU), point("devices", 5, **CPU), point("stored", 5, **CPU)]
    found = growth_points({one["title"]: one for one in points})
    assert [(one["facts"]["axis"], one["facts"]["place"]) for one in found] == [
        ("stored", 5),
        ("stored", 10),
        ("devices", 5),
    ]


def test_growth_stands_beside_what_raw_copy_cost_then() -> None:
    measured, unseen = point("stored", 5, **CPU), point("stored", 10, **CPU)
    for one in (measured, unseen):
        one["rate"] = {"median": 70_000.0}
        one["facts"] |= {"gateway_mib": 70.0, "writer_mib": 150.0}
    measured["facts"] |= {"raw_us": 9.04, "ratio_to_raw": {"median": 2.345}}
    lines = TABLES["growth"]({one["title"]: one for one in (measured, unseen)})
    assert [line.strip("| ").split(" | ")[6:8] for line in lines[-2:]] == [["9.0", "2.35"], ["", ""]]


def test_sizing_takes_the_cost_with_most_events_stored_before() -> None:
    few, many = point("stored", 10, **CPU), point("stored", 20, **{**CPU, "database": 24.0})
    lines = []
    for points in ([few], [few, many], [many, few]):
        found = TABLES["sizing"]({**FIGURES, **{one["title"]: one for one in points}})
        lines += [line for line in found if line.startswith("| 50,000 |")]
    assert lines[1] == lines[2] != lines[0]
    assert float(lines[1].split(" | ")[5]) == pytest.approx(50_000 * 24 / 1e6 / CORE_SHARE, abs=0.05)
