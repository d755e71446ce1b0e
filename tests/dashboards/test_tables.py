import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intensive_callbacks.dashboards.tables import decimate, heatmap_table, overview_is_due, overview_table


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300), st.integers(1, 60))
def test_decimation_keeps_ends_and_extremes_within_its_limit(values, limit):
    points = list(enumerate(values))
    kept = decimate(points, limit)
    assert len(kept) <= limit
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(points)
    assert kept[-1] == points[-1]
    if limit >= 4:
        assert kept[0] == points[0]
        assert max(value for _, value in kept) == max(values)
        assert min(value for _, value in kept) == min(values)


def test_decimation_keeps_every_spike():
    spikes = {1234: 5.0, 4321: -7.0, 8000: 3.0}
    points = [(step, spikes.get(step, 0.0)) for step in range(10_000)]
    kept = dict(decimate(points, 200))
    assert {step: value for step, value in kept.items() if value} == spikes


def test_a_long_history_of_many_metrics_fits_into_2000_rows():
    rows = [{"step": step, **{f"routing/{n}": math.sin(step + n) for n in range(25)}} for step in range(1000)]
    table = overview_table(rows)
    assert 1900 < len(table) <= 2000
    assert {row["metric"] for row in table} == {f"routing/{n}" for n in range(25)}


def test_more_metrics_than_rows_fit_into_2000_rows():
    rows = [{"step": 0, **{f"key/{n}": 1.0 for n in range(3000)}}]
    assert len(overview_table(rows)) == 2000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "text"])
def test_values_that_are_not_finite_numbers_are_dropped(value):
    rows = [{"step": 0, "a": value, "b": 1.0}, {"step": 1, "a": 2.0}]
    assert [(row["metric"], row["step"]) for row in overview_table(rows)] == [("b", 0), ("a", 1)]


def test_baselines_and_costs_are_not_drawn():
    assert overview_table([{"step": 0, "baseline/total_params": 7.0, "cost/tokens_per_second": 9.0}]) == []


def test_the_overview_is_due_at_most_20_times():
    # A run of 2**n rows passes each power of two once; 2**40 logging steps take longer than any training.
    due = [power for power in range(40) if overview_is_due(2**power)]
    assert due[0] == 4
    assert len(due) + 1 <= 20
    assert not any(overview_is_due(rows) for rows in (0, 1, 15, 17, 24, 1000, 100_000))


def test_a_heatmap_too_large_drops_snapshots_but_not_the_ends():
    snapshots = [{"step": step, "loads": {f"layer {n}": [1] * 8 for n in range(4)}} for step in range(100)]
    rows = heatmap_table(snapshots, max_rows=10 * 32)
    steps = sorted({row["step"] for row in rows})
    assert len(rows) == 320
    assert (steps[0], steps[-1], len(steps)) == (0, 99, 10)


def test_a_single_snapshot_too_large_drops_layers():
    rows = heatmap_table([{"step": 0, "loads": {f"layer {n}": [1] * 256 for n in range(61)}}])
    layers = {row["layer"] for row in rows}
    assert len(rows) <= 10_000
    assert {"layer 0", "layer 60"} <= layers
    assert len(layers) == 10_000 // 256


def test_layers_differ_in_width_and_empty_ones_are_left_out():
    rows = heatmap_table([{"step": 5, "loads": {"a": [2, 0, 2, 0], "b": [0, 0], "c": [5]}}])
    assert [(row["layer"], row["load"]) for row in rows] == [("a", 2.0), ("a", 0.0), ("a", 2.0), ("a", 0.0), ("c", 1.0)]


def test_snapshots_as_tuples_give_the_same_heatmap():
    loads = {"a": [2, 0, 2, 0], "b": [1, 3]}
    assert heatmap_table([(5, loads)]) == heatmap_table([{"step": 5, "loads": loads}])
