"""The bench throws away what its canary did not vouch for, and computes ratios of what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.arithmetic import compared, paired, percentile, sound_canaries, sound_count, summary
from tests.bench.goals import GOALS, Goal


def test_a_summary_has_median_least_and_most() -> None:
    found = summary([5.0, 1.0, 3.0, 100.0])
    assert (found.median, found.least, found.most, found.count) == (4.0, 1.0, 100.0, 4)


def test_nothing_has_no_summary() -> None:
    with pytest.raises(ValueError, match="nothing"):
        summary([])


def test_each_measurement_is_compared_with_the_canaries_beside_it() -> None:
    # The machine gets slower all the while; the ratio does not.
    found = compared([57.0, 51.0], [120.0, 108.0, 96.0])
    assert found.ratio.median == pytest.approx(0.5)
    assert found.thrown_away == 0


def test_a_canary_that_is_off_takes_both_neighbours_with_it() -> None:
    found = compared([50.0, 90.0, 10.0, 50.0], [100.0, 100.0, 60.0, 100.0, 100.0])
    assert found.thrown_away == 2
    assert (found.ratio.least, found.ratio.most, found.ratio.count) == (0.5, 0.5, 2)


@pytest.mark.parametrize(("canary", "sound"), [(85.0, True), (84.9, False), (115.0, True), (115.1, False)])
def test_a_canary_may_be_off_by_fifteen_percent_of_the_median(canary: float, sound: bool) -> None:
    assert sound_canaries([100.0, 100.0, canary]) == [True, True, sound]


def test_when_no_canary_vouches_for_anything_it_is_said() -> None:
    found = compared([50.0, 50.0], [50.0, 100.0, 200.0])
    assert found.noisy
    assert found.thrown_away == 2
    assert found.ratio.count == 2


def test_other_measurements_of_the_same_turn_are_thrown_away_together() -> None:
    found = paired([40.0, 99.0, 42.0], [20.0, 1.0, 20.0], [100.0, 101.0, 99.0, 100.0])
    assert found.ratio.count == 3
    found = paired([40.0, 99.0, 42.0, 44.0], [20.0, 1.0, 20.0, 20.0], [100.0, 30.0, 99.0, 100.0, 100.0])
    assert (found.ratio.least, found.ratio.most, found.thrown_away) == (2.1, 2.2, 2)


def test_there_is_a_canary_before_and_after_every_measurement() -> None:
    with pytest.raises(ValueError, match="canaries"):
        paired([1.0, 2.0], [1.0, 2.0], [1.0, 2.0])


def test_measurements_that_count_are_those_between_sound_canaries() -> None:
    assert sound_count([]) == 0
    assert sound_count([100.0]) == 0
    assert sound_count([100.0, 100.0, 50.0, 100.0, 100.0]) == 2


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=200),
    st.floats(0.001, 1.0),
)
def test_a_percentile_is_the_least_value_that_enough_values_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values)
    below = [value for value in values if value < found]
    assert len(below) < share * len(values) or not below


def test_goals_know_their_direction() -> None:
    more, less = Goal("rate", 0.6, 0.8), Goal("wait", 0.25, 0.1, at_most=True)
    assert more.met(0.6)
    assert not more.met(0.59)
    assert not more.aimed(0.7)
    assert less.met(0.25)
    assert not less.met(0.26)
    assert less.aimed(0.1)


def test_aims_are_not_below_musts() -> None:
    for goal in GOALS.values():
        assert goal.met(goal.aim), goal.title
