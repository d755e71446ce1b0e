import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from intensive_callbacks import InformationBottleneck, SalienceDivergence, TaskInformation
from intensive_callbacks.functional import (
    gaussian_information_bottleneck,
    salience_divergence,
    task_information,
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


def test_a_place_the_model_rules_out_costs_infinitely_much_unless_smoothed():
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


def test_task_information_of_perfect_and_of_uniform_predictions():
    target = torch.tensor([0, 0, 1, 2, 2, 2, 3, 3])
    entropy_of_labels = entropy([2, 1, 3, 2], base=2)
    perfect = 100.0 * torch.nn.functional.one_hot(target, 4)
    assert task_information(perfect, target).item() == pytest.approx(entropy_of_labels)
    assert task_information(torch.zeros(8, 4), target).item() == pytest.approx(entropy_of_labels - 2)
    assert task_information(perfect, target, num_dimensions=8).item() == pytest.approx(entropy_of_labels / 8)


def test_task_information_agrees_with_the_loss_of_torch_and_ignores_what_has_no_label():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(5, (50,), generator=generator)
    target[::7] = -100
    metric = TaskInformation(num_classes=5)
    metric.update(logits, target)
    loss = torch.nn.functional.cross_entropy(logits, target, ignore_index=-100).item()
    counts = target[target >= 0].bincount()
    assert metric.compute().item() == pytest.approx(entropy(counts, base=2) - loss / math.log(2))


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
def test_budgets_that_cannot_be_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        token_budgets(**arguments)


def test_gaussian_bottleneck_known_answer():
    plane = gaussian_information_bottleneck(torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64), 1, 4.6875)
    assert plane.input_information.item() * math.log(2) == pytest.approx(0.9402, abs=5e-5)
    assert plane.target_information.item() * math.log(2) == pytest.approx(0.3909, abs=5e-5)


def test_gaussian_bottleneck_is_the_optimum_over_noisy_projections():
    # T = a X + noise, a scalar: I(X;T) = ln(1 + a^2) / 2 and I(T;Y) of the correlation it leaves. Minimise over a.
    rho, beta = 0.7, 5.0
    scale = torch.logspace(-3, 3, 200_001, dtype=torch.float64)
    compression = (1 + scale**2).log2() / 2
    relevance = -(1 - rho**2 * scale**2 / (1 + scale**2)).log2() / 2
    best = (compression - beta * relevance).argmin()
    plane = gaussian_information_bottleneck(torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64), 1, beta)
    assert plane.input_information.item() == pytest.approx(compression[best].item(), abs=1e-3)
    assert plane.target_information.item() == pytest.approx(relevance[best].item(), abs=1e-3)


def test_gaussian_bottleneck_keeps_nothing_below_its_critical_price():
    covariance = torch.tensor([[2.0, 0.5, 0.3], [0.5, 1.0, 0.1], [0.3, 0.1, 1.0]], dtype=torch.float64)
    known = covariance[:2, 2:] @ covariance[:2, 2:].T
    share = torch.linalg.eigvals(torch.linalg.solve(covariance[:2, :2], known)).real.max().item()
    assert gaussian_information_bottleneck(covariance, 2, 0.99 / share).input_information == 0
    assert gaussian_information_bottleneck(covariance, 2, 1.05 / share).input_information > 0
    everything = gaussian_information_bottleneck(covariance, 2, 1e9).target_information.item()
    assert everything == pytest.approx(-0.5 * math.log2(1 - share), rel=1e-6)


def test_a_continuous_deterministic_representation_is_refused():
    metric = InformationBottleneck(num_x=4, num_codes=4, num_y=2, beta=1.0)
    with pytest.raises(ValueError, match="infinite"):
        metric.update(torch.arange(4), torch.rand(4), torch.zeros(4, dtype=torch.int64))


def test_plane_holds_both_terms():
    metric = InformationBottleneck(num_x=4, num_codes=4, num_y=2, beta=1.0)
    x = torch.arange(400) % 4
    metric.update(x, x, x // 2)
    assert [term.item() for term in metric.plane()] == pytest.approx([2, 1])
    metric.update(x, x + 1, x)
    with pytest.raises(ValueError, match=r"\[-1, size\)"):
        metric.plane()
