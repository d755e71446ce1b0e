import dataclasses
import math

import pytest
from scipy.stats import spearmanr

from benchmark_table.rows import DENSE, MOE, OURS
from intensive_callbacks import BenchmarkTable, load_baselines
from intensive_callbacks.benchmark.misnomer import efficiency_misnomer

WORSE = dataclasses.replace(DENSE, model="worse", accuracy=0.7)


def test_ranks_depend_on_the_cost():
    said = efficiency_misnomer([MOE, DENSE, WORSE])
    # sparse: 0.8 per 10e9 active, 100e9 total, 100 GB; dense: 0.9 per 50e9 active and total, 100 GB
    assert said.ranks == {
        "active_params": (1, 2, 3),
        "total_params": (3, 1, 2),
        "num_bytes": (2, 1, 3),
    }
    assert said.pareto == ("sparse", "dense")


def test_equal_models_share_a_rank():
    twin = dataclasses.replace(DENSE, model="twin")
    said = efficiency_misnomer([DENSE, twin, MOE])
    assert said.ranks["active_params"] == (2.5, 2.5, 1)
    assert said.pareto == ("dense", "twin", "sparse")


def test_p3_that_is_an_order_of_sizes():
    rows = [row for row in load_baselines("language") if row.protocol.startswith("Open LLM Leaderboard")]
    said = efficiency_misnomer(rows)
    expected = spearmanr([row.accuracy / row.active_params for row in rows], [1 / row.active_params for row in rows])
    assert said.size_correlation == pytest.approx(expected.statistic, abs=1e-6)
    assert said.size_correlation > 0.9
    assert (
        f"P3 merely orders them by size: its rank correlation with 1/active params is {said.size_correlation:.3f}"
        in (said.lines())
    )


def test_p3_that_is_not_an_order_of_sizes():
    sizes_against = [
        dataclasses.replace(DENSE, model=str(size), accuracy=accuracy, active_params=size * 1e9)
        for size, accuracy in ((10, 0.1), (20, 0.5), (40, 0.99))
    ]
    said = efficiency_misnomer(sizes_against)
    assert said.size_correlation == pytest.approx(-0.5, abs=1e-5)
    assert any(line.startswith("P3 does not merely order them by size") for line in said.lines())


def test_cost_unknown_for_one_model_is_not_ranked():
    said = efficiency_misnomer([MOE, DENSE, dataclasses.replace(WORSE, num_bytes=None)])
    assert set(said.ranks) == {"active_params", "total_params"}
    counted = [dataclasses.replace(row, num_flops=flops) for row, flops in ((MOE, 30e9), (DENSE, 90e9), (WORSE, 80e9))]
    assert efficiency_misnomer(counted).ranks["num_flops"] == (1, 2, 3)  # 0.8 / 30, 0.9 / 90, 0.7 / 80
    assert "num_flops" not in efficiency_misnomer([*counted[:2], WORSE]).ranks
    assert len(efficiency_misnomer([MOE, dataclasses.replace(DENSE, accuracy=math.nan)]).models) == 1


def test_misnomer_needs_three_models_of_one_group():
    assert efficiency_misnomer([MOE, DENSE]).lines() == []
    assert efficiency_misnomer([]).lines() == []
    with pytest.raises(ValueError, match="pass one group"):
        efficiency_misnomer([MOE, OURS])


def test_misnomer_is_printed_below_the_group():
    text = BenchmarkTable([MOE, DENSE, WORSE]).to_markdown()
    assert "Pareto-optimal in accuracy and every cost" in text
    assert "its rank correlation with 1/active params is" in text
