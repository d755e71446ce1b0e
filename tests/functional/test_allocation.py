import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from intensive_callbacks import SalienceDivergence
from intensive_callbacks.functional import (
    salience_divergence,
    token_budgets,
)


def test_divergences_agree_with_scipy():
    generator = torch.Generator().manual_seed(0)
    human, model = (torch.rand(20, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    human[0, :4] = 0
    expected = torch.tensor(entropy(human.numpy(), model.numpy(), axis=1))
    torch.testing.assert_close(salience_divergence(human, model), expected)
    expected = torch.tensor(jensenshannon(human.numpy(), model.numpy(), axis=1)) ** 2
    torch.testing.assert_close(salience_divergence(human, model, divergence="jensen_shannon"), expected)


def test_salience_divergence_is_infinite_unless_smoothed():
    human, model = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    assert salience_divergence(human, model).item() == math.inf
    smoothed = salience_divergence(human, model, smoothing=0.02).item()
    assert smoothed == pytest.approx(0.5 * math.log(0.5 / 0.99) + 0.5 * math.log(0.5 / 0.01), rel=1e-6)
    apart = salience_divergence(torch.eye(2), torch.eye(2).flip(0), divergence="jensen_shannon")
    assert apart.tolist() == pytest.approx([math.log(2)] * 2)


def test_known_salience():
    metric = SalienceDivergence()
    metric.update(torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.full((2, 2), 0.5), mask=torch.tensor([True, False]))
    assert metric.compute() == 0
    metric.update(torch.tensor([[0.9, 0.1]]), torch.full((1, 2), 0.5))
    assert metric.compute().item() == pytest.approx(0.184, abs=5e-4)


def test_token_budgets_of_the_source_and_their_opposite():
    quality = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    inverse = token_budgets(quality, order="inverse")
    assert inverse.tolist() == [400, 316, 232, 148, 64]
    assert torch.corrcoef(torch.stack([quality.double(), inverse]))[0, 1].item() == pytest.approx(-1)
    assert token_budgets(quality).tolist() == [64, 148, 232, 316, 400]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.sampled_from(["direct", "inverse"]))
@settings(max_examples=100, deadline=None)
def test_a_total_is_kept_exactly_and_so_is_the_order(values, share, order):
    quality = torch.tensor(values, dtype=torch.float64)
    total = round(len(values) * (64 + 336 * share))
    budgets = token_budgets(quality, order=order, total=total)
    assert budgets.sum() == total
    assert ((budgets >= 64) & (budgets <= 400)).all()
    ranked = budgets[quality.argsort(stable=True, descending=order == "inverse")]
    assert (ranked.diff() >= -1).all()  # equal ones may differ by the one token left over


def test_budgets_without_limits_in_play_are_shifted_alike():
    budgets = token_budgets(torch.tensor([0.2, 0.3, 0.5]), total=600)
    assert budgets.diff().tolist() == pytest.approx([33.6, 67.2], abs=1)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"quality": torch.tensor([1.2])}, r"fractions in \[0, 1\]"),
        ({"quality": torch.tensor([0.5, 0.5]), "total": 100}, "128 to 800"),
        ({"quality": torch.tensor([0.5]), "order": "up"}, "inverse or direct"),
        ({"quality": torch.tensor([0.5]), "least": 5, "greatest": 4}, "least <= greatest"),
    ],
)
def test_impossible_budgets_raise(arguments, match):
    with pytest.raises(ValueError, match=match):
        token_budgets(**arguments)
