import math

import pytest
import torch
from torch import nn

from intensive_callbacks import (
    ConfigurationEntropyScore,
    CouplingQuality,
    EffectiveDimensionality,
    FreeEnergy,
    OrderParameter,
    ParameterFlopEfficiency,
    PerformancePerParameter,
    RelevanceRealizationRate,
    TaskInformation,
    cards,
    functional,
)
from intensive_callbacks.functional import free_energy, size_exponent

ACCURACY = 0.8


def widened(model, factor):
    """A network of ``factor`` times the width that computes the same: every hidden unit copied, its outputs shared."""
    first, activation, last = model
    wide = nn.Sequential(
        nn.Linear(first.in_features, factor * first.out_features),
        activation,
        nn.Linear(factor * last.in_features, last.out_features),
    )
    with torch.no_grad():
        wide[0].weight.copy_(first.weight.repeat(factor, 1))
        wide[0].bias.copy_(first.bias.repeat(factor))
        wide[2].weight.copy_(last.weight.repeat(1, factor) / factor)
        wide[2].bias.copy_(last.bias)
    return wide


def num_params(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def family():
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 4))
    models = [base, *(widened(base, factor) for factor in (2, 4, 8))]
    inputs = torch.randn(20, 6)
    for model in models:
        torch.testing.assert_close(model(inputs), base(inputs))
    return [(num_params(model), model) for model in models]


def fed(metric, *arguments):
    metric.update(*arguments)
    return metric.compute()


def exponent(metric, family):
    return size_exponent(metric, family).exponent


def test_ratios_fall_as_one_over_size_and_its_square(family):
    p3 = size_exponent(lambda m: fed(PerformancePerParameter(num_params=num_params(m)), ACCURACY), family)
    assert p3 == pytest.approx((-1, -1, -1))
    both = exponent(lambda m: fed(ParameterFlopEfficiency(num_params(m), 2 * num_params(m)), ACCURACY), family)
    assert both == pytest.approx(-2)


def test_what_depends_on_behavior_alone_stays(family):
    torch.manual_seed(1)
    inputs, target = torch.randn(500, 6), torch.randint(4, (500,))
    target = torch.where(torch.rand(500) < 0.8, family[0][1](inputs).argmax(-1), target)

    def task(model):
        return fed(TaskInformation(num_classes=4), 20 * model(inputs), target)

    def dimensionality(model):
        hidden = model[:2](inputs)
        return fed(EffectiveDimensionality(hidden.shape[-1]), hidden)

    def coupling(model):
        return fed(CouplingQuality(4, 4), model(inputs).argmax(-1), target)

    def order(model):
        return fed(OrderParameter(random_baseline=0.25), (model(inputs).argmax(-1) == target).double().mean())

    for metric in (task, dimensionality, coupling, order):
        assert exponent(metric, family) == pytest.approx(0, abs=1e-4)
    assert exponent(lambda m: task(m) / m[0].out_features, family) == pytest.approx(-1, abs=0.02)


def test_copied_experts_leave_load_entropy_and_r3():
    ids = torch.randint(8, (4000, 2), generator=torch.Generator().manual_seed(0)) ** 2 // 7

    def entropy(copies):
        copied = ids * copies + torch.arange(len(ids)).unsqueeze(-1) % copies
        return fed(ConfigurationEntropyScore(num_experts=8 * copies), copied)

    # H and ln E grow by the same ln 2: the ratio creeps to 1.
    assert 0 < exponent(entropy, [(8 * copies, copies) for copies in (1, 2, 4, 8)]) < 0.1
    rate = exponent(
        lambda n: fed(RelevanceRealizationRate(n, n / 8, 0.25), ACCURACY), [(n, n) for n in (1e6, 1e7, 1e8)]
    )
    assert rate == pytest.approx(0, abs=1e-12)


def test_free_energy_is_extensive():
    def spins(number):
        fields = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * number).reshape(2**number, -1).sum(-1)
        return -fed(FreeEnergy(), fields.unsqueeze(0))

    family = [(number, number) for number in (1, 2, 4, 8)]
    assert exponent(spins, family) == pytest.approx(1)
    assert exponent(lambda number: spins(number) / number, family) == pytest.approx(0, abs=1e-6)
    assert spins(4).item() == pytest.approx(-4 * free_energy(torch.tensor([-0.5, 0.5])).item())


def test_size_exponent_interval_has_its_coverage():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(6, 10, 8, dtype=torch.float64)
    held = 0
    for _ in range(300):
        values = 3 * sizes**-0.3 * (0.2 * torch.randn(8, generator=generator, dtype=torch.float64)).exp()
        fit = size_exponent(lambda value: value, zip(sizes, values, strict=True))
        held += fit.low <= -0.3 <= fit.high
    assert 0.91 <= held / 300 <= 0.98


def test_two_models_have_an_exponent_and_no_interval():
    assert size_exponent(lambda value: value, [(1.0, 3.0), (2.0, 6.0)]) == pytest.approx((1.0, -math.inf, math.inf))


def test_nonpositive_value_has_no_exponent():
    assert all(map(math.isnan, size_exponent(lambda value: value, [(1.0, 3.0), (2.0, 0.0), (3.0, 1.0)])))


def test_one_size_raises():
    with pytest.raises(ValueError, match="two different sizes"):
        size_exponent(lambda value: value, [(2.0, 3.0), (2.0, 4.0)])


LABELS = {-1: "ratio", 0: "intensive", 1: "extensive"}
TOKENS = 1e12
OF_SIZE = {  # the value of a model of N parameters that does the same whatever N, costs in proportion
    "P3": lambda n: functional.performance_per_parameter(0.6, n),
    "P2F": lambda n: functional.performance_per_flop(0.6, 2 * n),
    "MER": lambda n: functional.memory_efficiency_ratio(0.6, 2 * n),
    "ID": lambda n: functional.intelligence_density(0.6, 2 * n),
    "CD": lambda n: functional.capability_density(0.6, n),
    "R3": lambda n: functional.relevance_realization_rate(0.6, n, n / 8, 0.25),
    "SAA": lambda n: functional.sparsity_adjusted_accuracy(0.6, n, n / 8),
    "COI": lambda n: functional.chinchilla_optimality_index(n, TOKENS),
    "GE": lambda n: functional.generalization_efficiency(torch.tensor([5e5, 1e6]), torch.tensor([0.7, 0.85])),
    "φ": lambda n: functional.order_parameter(0.6, 0.25),
}


@pytest.mark.parametrize("symbol", OF_SIZE)
def test_card_label_is_the_widening_exponent(symbol):
    measured = size_exponent(OF_SIZE[symbol], [(n, n) for n in (1e9, 2e9, 4e9, 8e9)])
    assert measured.exponent == pytest.approx(round(measured.exponent), abs=1e-6)
    assert cards.card(symbol).size == LABELS[round(measured.exponent)]
