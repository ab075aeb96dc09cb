"""What `weir doctor` says of servers, asked of real ones."""

import pytest

from deploy.local.doctor import broker_finding, edition_finding, guarded, migrations_finding
from deploy.local.ports import free_port
from schema import timescale


def test_a_migrated_database_is_well_and_its_edition_told(database_dsn: str) -> None:
    edition = edition_finding(database_dsn)
    assert edition.well
    assert "edition, TimescaleDB 2" in edition.text
    assert migrations_finding(database_dsn).well


def test_a_database_that_was_never_migrated_is_a_problem_with_its_remedy(empty_database_dsn: str) -> None:
    for finding in (edition_finding(empty_database_dsn), migrations_finding(empty_database_dsn)):
        assert not finding.well
        assert finding.remedy == "weir migrate"


def test_a_release_that_does_not_serve_is_a_problem(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timescale, "LEAST", (999, 0, 0))
    finding = edition_finding(database_dsn)
    assert not finding.well
    assert "is too old: 999.0.0 or newer is needed" in finding.text


def test_a_database_that_is_away_is_a_problem() -> None:
    finding = guarded(lambda: edition_finding(f"postgresql://127.0.0.1:{free_port()}/weir"))
    assert not finding.well
    assert "does not answer" in finding.text


def test_a_broker_is_well_while_it_answers(kafka_bootstrap: str) -> None:
    assert broker_finding(kafka_bootstrap).well
    assert broker_finding(f"{kafka_bootstrap},127.0.0.1:{free_port()}").well
    assert not broker_finding(f"127.0.0.1:{free_port()}").well
