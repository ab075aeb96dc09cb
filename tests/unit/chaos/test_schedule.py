"""A campaign can be repeated from its seed, and strikes with everything."""

from __future__ import annotations

from tests.chaos.faults import FAULTS
from tests.chaos.faults.fault import WHY_NOT
from tests.chaos.given import DISK, PROCESSES, START
from tests.chaos.schedule import schedule

OWN = (PROCESSES, START)
ALL = ("disks", "clock", DISK, *OWN)


def names(seed: int, minutes: float) -> list[tuple[str, float]]:
    return [(r.title, r.seconds) for r in schedule(FAULTS, seed, minutes, able=ALL)]


def test_the_same_seed_draws_the_same_rounds_and_another_seed_others() -> None:
    assert names(1, 30) == names(1, 30)
    assert names(1, 30) != names(2, 30)


def test_every_fault_strikes_alone_before_any_are_mixed() -> None:
    rounds = schedule(FAULTS, 1, 30, able=ALL)
    assert [r.title for r in rounds[: len(FAULTS)]] == [fault.name for fault in FAULTS]
    mixed = rounds[len(FAULTS) :]
    assert mixed
    assert all(2 <= len(set(r.faults)) == len(r.faults) and not r.alone for r in mixed)


def test_every_fault_is_mixed_with_others_but_with_those_that_it_stays_apart_from() -> None:
    mixed = [r for seed in range(10) for r in schedule(FAULTS, seed, 30, able=ALL) if not r.alone]
    assert {fault.name for r in mixed for fault in r.faults} == {fault.name for fault in FAULTS}
    for r in mixed:
        names = {fault.name for fault in r.faults}
        assert not any(names.intersection(fault.apart_from) for fault in r.faults)


def test_the_faults_alone_leave_time_for_mixtures() -> None:
    alone = [r for r in schedule(FAULTS, 1, 30, able=ALL) if r.alone]
    assert sum(r.seconds for r in alone) < 30 * 60 * 0.75


def test_the_short_form_is_short() -> None:
    rounds = schedule(FAULTS, 1, 2, able=OWN)
    assert 30 < sum(r.seconds for r in rounds) < 100
    assert not any(fault.needs and fault.needs not in OWN for r in rounds for fault in r.faults)


def test_what_a_given_server_does_not_permit_never_strikes() -> None:
    rounds = schedule(FAULTS, 1, 30, able=("disks", "clock"))
    struck = {fault.name for r in rounds for fault in r.faults}
    left_out = {"PostgreSQL frozen", "PostgreSQL killed", "PostgreSQL's disk full"}
    assert {fault.name for fault in FAULTS} - struck == left_out
    assert all(fault.needs in WHY_NOT for fault in FAULTS if fault.needs)


def test_one_fault_can_be_asked_for() -> None:
    rounds = schedule(FAULTS, 1, 2, able=ALL, only=["Kafka killed"])
    assert [r.title for r in rounds] == ["Kafka killed"]
