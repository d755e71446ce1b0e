import math

import pytest
import torch

from intensive_callbacks import InformationBottleneck
from intensive_callbacks.functional import (
    gaussian_information_bottleneck,
)


def test_gaussian_bottleneck_known_answer():
    plane = gaussian_information_bottleneck(torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64), 1, 4.6875)
    assert plane.input_information.item() * math.log(2) == pytest.approx(0.9402, abs=5e-5)
    assert plane.target_information.item() * math.log(2) == pytest.approx(0.3909, abs=5e-5)


def test_gaussian_bottleneck_is_the_optimal_projection():
    # T = a X + noise, a scalar: I(X;T) = ln(1 + a^2) / 2 and I(T;Y) of the correlation it leaves. Minimize over a.
    rho, beta = 0.7, 5.0
    scale = torch.logspace(-3, 3, 200_001, dtype=torch.float64)
    compression = (1 + scale**2).log2() / 2
    relevance = -(1 - rho**2 * scale**2 / (1 + scale**2)).log2() / 2
    best = (compression - beta * relevance).argmin()
    plane = gaussian_information_bottleneck(torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64), 1, beta)
    assert plane.input_information.item() == pytest.approx(compression[best].item(), abs=1e-3)
    assert plane.target_information.item() == pytest.approx(relevance[best].item(), abs=1e-3)


def test_gaussian_bottleneck_below_its_critical_beta():
    covariance = torch.tensor([[2.0, 0.5, 0.3], [0.5, 1.0, 0.1], [0.3, 0.1, 1.0]], dtype=torch.float64)
    known = covariance[:2, 2:] @ covariance[:2, 2:].T
    share = torch.linalg.eigvals(torch.linalg.solve(covariance[:2, :2], known)).real.max().item()
    assert gaussian_information_bottleneck(covariance, 2, 0.99 / share).input_information == 0
    assert gaussian_information_bottleneck(covariance, 2, 1.05 / share).input_information > 0
    everything = gaussian_information_bottleneck(covariance, 2, 1e9).target_information.item()
    assert everything == pytest.approx(-0.5 * math.log2(1 - share), rel=1e-6)


def test_continuous_codes_raise():
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
