"""How much of everything a run takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """``rounds``: measurements of each kind, up to ``most_rounds`` while canaries say that some are
    worthless.

    ``side_rounds``: of figures that no goal hangs on; 0: those are left out. ``growth_axes``: whether to
    grow in anything but events stored before. Events are those of one measurement unless said otherwise;
    ``way_events``: so many that the first and the last tenth of a second count for little, since the load is
    to be a sustained one.
    """

    rounds: int
    most_rounds: int
    side_rounds: int
    events: int
    way_events: int
    preloaded_events: int
    gateway_seconds: float
    connections_one: int
    connections_many: int
    histogram_rows: int
    histogram_rounds: int
    latency_seconds: float
    memory_events: int
    frozen_seconds: float
    query_events: int
    query_days: int
    query_report_days: int
    query_nodes: int
    query_devices: int
    query_buckets: int
    query_rounds: int
    growth_events: int
    growth_rounds: int
    growth_stored: tuple[int, ...]
    growth_axes: bool
    disk_events: int


QUICK = Scale(
    rounds=5,
    most_rounds=9,
    side_rounds=3,
    events=200_000,
    way_events=400_000,
    preloaded_events=0,
    gateway_seconds=4.0,
    connections_one=512,
    connections_many=64,
    histogram_rows=2_000_000,
    histogram_rounds=7,
    latency_seconds=12.0,
    memory_events=500_000,
    frozen_seconds=20.0,
    query_events=500_000,
    query_days=30,
    query_report_days=3,
    query_nodes=200,
    query_devices=10_000,
    query_buckets=10_000,
    query_rounds=40,
    growth_events=100_000,
    growth_rounds=3,
    growth_stored=(10_000, 1_000_000),
    growth_axes=True,
    disk_events=200_000,
)
FULL = Scale(
    rounds=7,
    most_rounds=12,
    side_rounds=5,
    events=400_000,
    way_events=400_000,
    preloaded_events=5_000_000,
    gateway_seconds=10.0,
    connections_one=512,
    connections_many=64,
    histogram_rows=2_000_000,
    histogram_rounds=11,
    latency_seconds=30.0,
    memory_events=5_000_000,
    frozen_seconds=60.0,
    query_events=5_000_000,
    query_days=30,
    query_report_days=3,
    query_nodes=200,
    query_devices=10_000,
    query_buckets=10_000,
    query_rounds=200,
    growth_events=200_000,
    growth_rounds=5,
    growth_stored=(10_000, 1_000_000, 20_000_000),
    growth_axes=True,
    disk_events=200_000,
)
SMOKE = Scale(
    rounds=1,
    most_rounds=1,
    side_rounds=0,
    events=4_000,
    way_events=4_000,
    preloaded_events=0,
    gateway_seconds=0.5,
    connections_one=16,
    connections_many=4,
    histogram_rows=4_000,
    histogram_rounds=1,
    latency_seconds=1.0,
    memory_events=4_000,
    frozen_seconds=1.0,
    query_events=6_000,
    query_days=3,
    query_report_days=1,
    query_nodes=3,
    query_devices=100,
    query_buckets=300,
    query_rounds=1,
    growth_events=4_000,
    growth_rounds=1,
    growth_stored=(2_000,),
    growth_axes=True,
    disk_events=4_000,
)
