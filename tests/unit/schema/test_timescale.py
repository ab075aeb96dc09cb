"""Which releases of TimescaleDB serve."""

import pytest

from schema.timescale import refusal


@pytest.mark.parametrize(
    "version", ["2.19.0", "2.19.3", "2.21.4", "2.22.1", "2.29.2", "2.30.0-dev", "2.100", "3.0.0"]
)
def test_these_serve(version: str) -> None:
    assert refusal(version) is None


@pytest.mark.parametrize("version", ["1.7.5", "2.2.0", "2.18.2"])
def test_what_is_older_than_was_ever_tried_does_not(version: str) -> None:
    assert refusal(version) == f"TimescaleDB {version} is too old: 2.19.0 or newer is needed"


def test_a_release_that_loses_counts_does_not() -> None:
    assert "update it" in (refusal("2.22.0") or "")


def test_what_is_no_release_does_not() -> None:
    assert "no release" in (refusal("next") or "")
