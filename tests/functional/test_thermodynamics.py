import math
from itertools import product

import pytest
import torch
from scipy.optimize import brentq

from intensive_callbacks import FreeEnergy
from intensive_callbacks.functional import (
    correlation_length,
    critical_beta,
    critical_exponent,
    free_energy,
    landauer_limit,
    mean_field_magnetization,
)


def test_free_energy_of_independent_spins_is_the_sum_of_theirs():
    num_spins, field, tau = 10, 0.5, 1.0
    energies = torch.tensor([-field * sum(spins) for spins in product((-1, 1), repeat=num_spins)])
    assert free_energy(energies, tau).item() == pytest.approx(-num_spins * tau * math.log(2 * math.cosh(field / tau)))
    assert free_energy(energies, tau).item() == pytest.approx(-8.132616875182228)


def test_free_energy_of_logits_is_minus_their_log_partition():
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    metric = FreeEnergy()
    metric.update(-logits, mask=torch.arange(7) < 4)
    assert metric.compute().item() == pytest.approx(-logits[:4].exp().sum(-1).log().mean().item())


def test_landauer_limits():
    assert landauer_limit(bits=1, temperature=300) == pytest.approx(2.870978885078724e-21, rel=1e-12)
    assert landauer_limit(bits=32e9, temperature=300) == pytest.approx(9.187132432251916e-11, rel=1e-12)


@pytest.mark.parametrize("strength", [1.0001, 1.01, 1.5, 3.0, 20.0])
def test_magnetization_of_one_spin_is_the_root(strength):
    root = brentq(lambda m: m - math.tanh(strength * m), 1e-6, 1.0, xtol=1e-15)
    assert mean_field_magnetization(1.0, beta=strength).item() == pytest.approx(root, rel=1e-9)
    assert mean_field_magnetization(strength, beta=1.0).item() == pytest.approx(root, rel=1e-9)


def test_magnetization_known_values():
    assert mean_field_magnetization(1.0, beta=1.5).item() == pytest.approx(0.8585596366401104)
    assert mean_field_magnetization(1.0, beta=1.0) == 0
    assert mean_field_magnetization(1.0, beta=0.3) == 0
    near = 1e-4
    assert mean_field_magnetization(1.0, beta=1 + near).item() == pytest.approx(math.sqrt(3 * near), rel=1e-3)


def test_magnetization_of_many_spins():
    coupling = torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    critical = critical_beta(coupling)
    above = mean_field_magnetization(coupling, beta=1.1 * critical)
    torch.testing.assert_close(above, torch.tanh(1.1 * critical * coupling @ above))
    assert (above > 0.1).all()
    assert (mean_field_magnetization(coupling, beta=0.99 * critical) == 0).all()


def test_magnetization_has_the_exponent_one_half():
    beta = 1.0 + torch.logspace(-6, -3, 15, dtype=torch.float64)
    magnetization = torch.stack([mean_field_magnetization(1.0, value.item()) for value in beta])
    fit = critical_exponent(beta, magnetization, critical_point=1.0)
    assert fit.exponent == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("known", [True, False])
def test_exponent_of_a_noisy_sweep_lies_in_its_interval(known):
    held = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        control = 4.0 + torch.logspace(-1, 3, 25, dtype=torch.float64)
        noise = 0.05 * torch.randn(25, generator=generator, dtype=torch.float64)
        fit = critical_exponent(control, 2.0 * (control - 4.0) ** 0.326 * noise.exp(), 4.0 if known else None)
        assert fit.exponent == pytest.approx(0.326, abs=0.05)
        assert fit.critical_point == pytest.approx(4.0, abs=0.2)
        held += fit.low <= 0.326 <= fit.high
    assert 51 <= held <= 60


def test_exponent_of_a_correlation_length_is_negative():
    control = torch.logspace(0, 3, 10)
    assert critical_exponent(control, 5.0 * control**-0.63, critical_point=0.0).exponent == pytest.approx(-0.63)


@pytest.mark.parametrize(
    ("control", "response", "point", "match"),
    [
        (torch.linspace(1, 90, 20), torch.linspace(1, 90, 20), 0.0, "two decades"),
        (torch.logspace(0, 3, 4), torch.ones(4), 0.0, "at least 5"),
        (torch.logspace(0, 3, 9), torch.zeros(9), 0.0, "above 0"),
        (torch.logspace(0, 3, 9), torch.ones(9), 10.0, "one side"),
    ],
)
def test_sweeps_without_an_exponent_raise(control, response, point, match):
    with pytest.raises(ValueError, match=match):
        critical_exponent(control, response, point)


def test_correlation_length_of_an_autoregression():
    noise = torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = 0.8 ** torch.arange(100, dtype=torch.float64).flip(0)
    series = torch.nn.functional.conv1d(noise.reshape(1, 1, -1), weights.reshape(1, 1, -1)).flatten()
    correlations = torch.stack([torch.corrcoef(torch.stack([series[:-k], series[k:]]))[0, 1] for k in range(1, 9)])
    assert correlation_length(correlations).item() == pytest.approx(-1 / math.log(0.8), rel=0.05)
    assert correlation_length(correlations, 3 * torch.arange(1, 9)).item() == pytest.approx(
        -3 / math.log(0.8), rel=0.05
    )


def test_correlation_that_does_not_fall_has_no_length():
    assert correlation_length(torch.tensor([0.5, 0.6, 0.7])).isnan()
    assert correlation_length(torch.tensor([0.5, -0.1, 0.3])).isnan()


@pytest.mark.parametrize("coupling", [-1.0, torch.ones(2, 3)])
def test_invalid_couplings_raise(coupling):
    with pytest.raises(ValueError, match="square matrix without negative"):
        mean_field_magnetization(coupling, beta=1.0)
