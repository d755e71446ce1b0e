import dataclasses
import re

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmark_table.rows import DENSE, MOE
from intensive_callbacks.benchmark.compare import compare, mcnemar, num_discordant_needed


def answered(row, right):
    return dataclasses.replace(row, correct=dict(enumerate(right)))


def test_accuracy_interval_is_the_paired_normal_one():
    rng = np.random.default_rng(0)
    hard = rng.random(4000)
    first, second = hard < 0.72, (hard < 0.7) ^ (rng.random(4000) < 0.05)
    (accuracy, *_) = compare(answered(MOE, first), answered(DENSE, second)).differences
    apart = first.astype(int) - second.astype(int)
    margin = 1.96 * apart.std() / np.sqrt(4000)
    assert accuracy.value == pytest.approx(apart.mean())
    assert (accuracy.low, accuracy.high) == pytest.approx((apart.mean() - margin, apart.mean() + margin), abs=5e-4)
    # Unpaired, the interval would be four times as wide: what is hard for both does not blur the difference.
    assert 1.96 * np.sqrt(first.var() / 4000 + second.var() / 4000) > 2.5 * margin


def test_intervals_have_their_nominal_coverage():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        cells = rng.choice(4, p=[0.6, 0.15, 0.1, 0.15], size=300)
        pair = answered(MOE, cells < 2), answered(DENSE, (cells == 0) | (cells == 2))
        accuracy = compare(*pair, metrics=(), num_resamples=1000, seed=seed).differences[0]
        covered += accuracy.low <= 0.05 <= accuracy.high
    assert 0.90 <= covered / 200 <= 0.99


def test_winner_depends_on_the_metric():
    rng = np.random.default_rng(2)
    counted = dataclasses.replace(MOE, num_flops=20e9), dataclasses.replace(DENSE, num_flops=100e9)
    sparse, dense = answered(counted[0], rng.random(2000) < 0.8), answered(counted[1], rng.random(2000) < 0.9)
    said = {difference.quantity: difference for difference in compare(sparse, dense).differences}
    assert {name: said[name].better_model for name in ("accuracy", "P3", "P2F", "MER", "R3")} == {
        "accuracy": 1,
        "P3": 0,
        "P2F": 0,
        "MER": 1,
        "R3": None,  # no direction is better
    }
    # P3 is 100 a / N: the interval is that of 10 a - 2 b
    a, b = (np.array(list(row.correct.values()), dtype=float) for row in (sparse, dense))
    margin = 1.96 * (10 * a - 2 * b).std() / np.sqrt(2000)
    assert said["P3"].high - said["P3"].low == pytest.approx(2 * margin, rel=0.05)


def test_a_verdict_by_the_interval_alone_says_so():
    rng = np.random.default_rng(4)
    right, other = rng.random(2000) < 0.8, rng.random(2000) < 0.8
    cheap, dear = answered(MOE, right), answered(dataclasses.replace(MOE, model="dear", active_params=40e9), other)
    lines = str(compare(cheap, dear, ["P3", "MER"])).splitlines()
    assert [("is better" in line, "by the interval alone" in line) for line in lines] == [
        (False, False),  # the headline
        (False, False),  # the accuracy
        (True, True),  # 80 / 10 against 80 / 40
        (False, False),  # of equal bytes
    ]
    same = compare(answered(MOE, right), answered(dataclasses.replace(MOE, model="b"), ~right), ["P3"])
    assert "by the interval alone" not in str(same)


def test_equal_models_show_no_difference():
    right = np.random.default_rng(3).random(500) < 0.6
    comparison = compare(answered(MOE, right), answered(dataclasses.replace(MOE, model="twin"), right))
    assert comparison.p_value == 1
    assert all(difference.better_model is None for difference in comparison.differences)
    assert "accuracy: no difference is shown; difference +0 fraction" in str(comparison)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 9), (30, 12), (700, 810)])
def test_mcnemar_is_a_binomial_test_of_discordant_pairs(first, second):
    expected = binomtest(first, first + second).pvalue if first + second else 1
    assert mcnemar(first, second) == pytest.approx(expected)


def test_compare_refuses_without_common_examples():
    right = [True] * 10
    for first, second, message in (
        (
            MOE,
            answered(DENSE, right),
            "there are no per-example results of sparse",
        ),
        (answered(MOE, right), answered(DENSE, right[1:]), "of their 10 and 9 examples 1 are not the same"),
        (answered(MOE, right), answered(dataclasses.replace(DENSE, task="GSM8K"), right), "cannot compare sparse on"),
        (answered(MOE, []), answered(DENSE, []), "of their 0 and 0 examples"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            compare(first, second)


def test_metric_without_figures_is_skipped():
    right = [True, False] * 50
    unknown = answered(dataclasses.replace(DENSE, num_bytes=None), right)
    said = [difference.quantity for difference in compare(answered(MOE, right), unknown).differences]
    assert "P3" in said
    assert "MER" not in said


@pytest.mark.parametrize(("lost", "shown"), [(4, False), (5, False), (6, True), (10, True)])
def test_verdict_needs_interval_and_exact_test(lost, shown):
    assert (binomtest(0, lost).pvalue < 0.05) == shown
    right = np.arange(100) < 90
    better, worse = (
        answered(MOE, right),
        answered(dataclasses.replace(MOE, model="worse"), right & (np.arange(100) >= lost)),
    )
    comparison = compare(better, worse)
    decided = [each.better_model for each in comparison.differences if each.better != "neither"]
    assert len(decided) > 3
    assert set(decided) == {0 if shown else None}
    assert ("sparse is better" in str(comparison)) == shown
    assert ("would need about 6 such examples to show a difference" in str(comparison)) == (not shown)


@pytest.mark.parametrize("only_second", [0, 1, 3, 10, 40])
def test_discordant_pairs_needed_is_where_the_test_decides(only_second):
    needed = num_discordant_needed(50, only_second)
    share = only_second / (50 + only_second)

    def p_value(number):
        return binomtest(round(share * number), number).pvalue

    assert p_value(needed + 3) < 0.06
    assert p_value(max(1, needed - 4)) > 0.04
    assert num_discordant_needed(7, 7) is None
