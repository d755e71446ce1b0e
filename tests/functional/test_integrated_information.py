import math

import pytest
import torch

from intensive_callbacks import IntegratedInformation
from intensive_callbacks.functional import (
    integrated_information,
    total_correlation,
)


def autoregression(matrix, num_steps, num_series=1, seed=0):
    """A stationary series z' = A z + e for each index, ``[num_series, num_steps, d]``."""
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_steps + 50, num_series, len(matrix), generator=generator, dtype=torch.float64)
    states = torch.zeros_like(noise)
    for step in range(1, len(noise)):
        states[step] = states[step - 1] @ matrix.T + noise[step]
    return states[50:].transpose(0, 1)


def test_swapping_components_integrate_all_they_remember():
    states = autoregression([[0.0, 0.6], [0.6, 0.0]], 5000, num_series=20)
    metric = IntegratedInformation(num_components=2)
    for part in states.split(7):
        metric.update(part)
    assert metric.compute().item() * math.log(2) == pytest.approx(0.4463, abs=0.01)
    assert metric.total_correlation().item() == pytest.approx(0, abs=1e-3)


def test_separate_components_integrate_nothing():
    apart = autoregression([[0.9, 0, 0], [0, 0.5, 0], [0, 0, 0.7]], 20_000)
    assert abs(integrated_information(apart).item()) < 5e-3
    pair = autoregression([[0.0, 0, 0.6], [0, 0.5, 0], [0.6, 0, 0.0]], 20_000)
    assert abs(integrated_information(pair).item()) < 5e-3
    ring = autoregression([[0.0, 0, 0.6], [0.6, 0, 0], [0, 0.6, 0]], 20_000)
    assert integrated_information(ring).item() > 0.2


def test_shared_memory_makes_the_whole_less_than_its_parts():
    generator = torch.Generator().manual_seed(0)
    common = autoregression([[0.95]], 20_000)
    states = common + 0.3 * torch.randn(1, 20_000, 2, generator=generator, dtype=torch.float64)
    metric = IntegratedInformation(num_components=2)
    metric.update(states)
    assert metric.compute() < -0.5
    assert metric.total_correlation() > 1


def test_total_correlation_of_three_is_a_sum_of_informations():
    covariance = torch.tensor([[2.0, 0.5, 0.3], [0.5, 1.0, 0.1], [0.3, 0.1, 1.0]], dtype=torch.float64)
    of_pair = -0.5 * math.log2(1 - 0.25 / 2)
    rest = 0.5 * math.log2(covariance[:2, :2].det() * covariance[2, 2] / covariance.det())
    assert total_correlation(covariance).item() == pytest.approx(of_pair + rest)
