import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score
from sklearn.metrics.cluster import expected_mutual_information as expected_by_sklearn

from intensive_callbacks import CouplingQuality, MutualInformation, ShannonEntropy
from intensive_callbacks.functional import (
    contingency_table,
    coupling_quality_compute,
    discrete_mutual_information,
    expected_mutual_information,
    independent_tables,
    permutation_p_value,
    shannon_entropy_compute,
)

labels = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(0, 4)), arrays(np.int64, n, elements=st.integers(0, 6))
    )
)


def independent_pairs(num_values, num_observations, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(num_values, (num_observations,), generator=generator) for _ in range(2))


def table_of(x, y, num_values):
    return contingency_table((x, y), (num_values, num_values))[0]


def test_uniform_entropy_is_log2_n():
    for num_values in (2, 7, 1000):
        assert shannon_entropy_compute(torch.full((num_values,), 3), correction="none").item() == pytest.approx(
            math.log2(num_values)
        )


def test_miller_madow_removes_the_bias_of_the_plain_estimate():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(20, (4000, 100), generator=generator)
    counts = torch.nn.functional.one_hot(draws, 20).sum(1)
    truth = math.log2(20)
    plain = shannon_entropy_compute(counts, correction="none").mean().item() - truth
    corrected = shannon_entropy_compute(counts).mean().item() - truth
    assert plain < -0.13
    assert abs(corrected) < 0.01


@given(labels)
@settings(max_examples=40, deadline=None)
def test_agrees_with_scikit_learn(pair):
    x, y = pair
    counts, num_outside = contingency_table((torch.tensor(x), torch.tensor(y)), (5, 7))
    assert num_outside == 0
    plain = discrete_mutual_information(counts, correction="none").item()
    assert plain == pytest.approx(mutual_info_score(x, y) / math.log(2), abs=1e-12)
    adjusted = coupling_quality_compute(counts).item()
    if not math.isnan(adjusted):
        reference = adjusted_mutual_info_score(x, y, average_method="min")
        assert adjusted == pytest.approx(reference, abs=1e-4)


@pytest.mark.parametrize(("shape", "num"), [((100, 100), 1000), ((3, 3), 10_000), ((10, 20), 100_000), ((2, 9), 60)])
def test_expected_information_agrees_with_scikit_learn(shape, num):
    x, y = (torch.randint(size, (num,), generator=torch.Generator().manual_seed(size)) for size in shape)
    counts, _ = contingency_table((x, y), shape)
    reference = expected_by_sklearn(counts.numpy(), num) / math.log(2)
    assert expected_mutual_information(counts).item() == pytest.approx(reference, rel=1e-3)


def test_independent_labels_have_no_information():
    counts = table_of(*independent_pairs(100, 1000), num_values=100)
    assert coupling_quality_compute(counts, correction="none").item() == pytest.approx(0.50, abs=0.01)
    assert discrete_mutual_information(counts, correction="miller_madow") > 2.5
    assert abs(discrete_mutual_information(counts).item()) < 0.15
    assert abs(coupling_quality_compute(counts).item()) < 0.02


def test_noisy_copies_are_estimated_within_a_few_percent():
    # y = x with probability 0.7, else one of the other three: I = 2 - H(0.7, 0.1, 0.1, 0.1)
    truth = 2 + 0.7 * math.log2(0.7) + 0.3 * math.log2(0.1)
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(200):
        x = torch.randint(4, (200,), generator=generator)
        noise = torch.randint(1, 4, (200,), generator=generator)
        kept = torch.rand(200, generator=generator) < 0.7
        values.append(table_of(x, torch.where(kept, x, (x + noise) % 4), 4))
    for correction in ("adjusted", "miller_madow"):
        estimate = discrete_mutual_information(torch.stack(values), correction=correction).mean().item()
        assert estimate == pytest.approx(truth, rel=0.03)


def test_permutation_null_has_the_margins_and_the_expected_mean():
    counts = table_of(*independent_pairs(6, 80), num_values=6)
    null = independent_tables(counts, 2000)
    assert (null.sum(-1) == counts.sum(-1)).all()
    assert (null.sum(-2) == counts.sum(-2)).all()
    values = discrete_mutual_information(null, correction="none")
    error = values.std().item() / math.sqrt(2000)
    assert values.mean().item() == pytest.approx(expected_mutual_information(counts).item(), abs=4 * error)


def test_p_values_of_independent_labels_are_uniform():
    p_values = [permutation_p_value(table_of(*independent_pairs(4, 60, seed), 4), 99) for seed in range(200)]
    assert 0.01 <= np.mean(np.array(p_values) <= 0.05) <= 0.10
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)


def test_labels_outside_their_range_raise_in_compute():
    metric = MutualInformation(num_x=2, num_y=2)
    metric.update(torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 1, -5]))
    with pytest.raises(ValueError, match=r"sizes \(2, 2\).*2 of those"):
        metric.compute()


def test_masked_observations_do_not_count():
    x = torch.tensor([[0, 1, 9], [1, 0, 9]])
    metric = CouplingQuality(num_x=2, num_y=2)
    metric.update(x, x, mask=x < 9)
    assert metric.counts.tolist() == [[2, 0], [0, 2]]
    assert metric.num_outside == 0


@pytest.mark.parametrize(
    ("x", "match"),
    [(torch.rand(3), "must be integers"), (torch.zeros(4, dtype=torch.int64), "one shape")],
)
def test_invalid_labels_raise(x, match):
    with pytest.raises(ValueError, match=match):
        CouplingQuality(num_x=2, num_y=2).update(x, torch.zeros(3, dtype=torch.int64))


def test_sizes_and_corrections_are_checked_at_once():
    with pytest.raises(ValueError, match="at least 1 value"):
        ShannonEntropy(num_values=0)
    with pytest.raises(ValueError, match="miller_madow or none"):
        ShannonEntropy(num_values=2, correction="adjusted")
    with pytest.raises(ValueError, match="one of adjusted, miller_madow, none"):
        MutualInformation(2, 2, correction="shuffled")
