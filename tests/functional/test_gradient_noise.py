import math

import pytest
import torch

from intensive_callbacks import CriticalBatchSize
from intensive_callbacks.functional import (
    critical_batch_size,
    gradient_moments,
)


def squared_norms(mean, deviation, batch_size, num_steps, generator):
    """Squared norms of mean gradients over batches, drawn as the central limit has them, and of their first eighths."""
    shape = (num_steps, 8, len(mean))
    parts = mean + deviation / math.sqrt(batch_size / 8) * torch.randn(shape, generator=generator, dtype=torch.float64)
    return parts[:, 0].square().sum(-1), parts.mean(1).square().sum(-1)


def test_noise_scale_of_a_synthetic_gradient_in_fifty_dimensions():
    mean = torch.full((50,), 1 / math.sqrt(50), dtype=torch.float64)
    deviation = math.sqrt(8.80 / 50)
    small, large = squared_norms(mean, deviation, 32, 20_000, torch.Generator().manual_seed(0))
    assert critical_batch_size(small, large, 4, 32, decay=1.0).item() == pytest.approx(8.80, rel=0.02)
    metric = CriticalBatchSize(small_batch_size=4, large_batch_size=32, decay=0.999)
    for part in zip(small.split(100), large.split(100), strict=True):
        metric.update(*part)
    assert metric.compute().item() == pytest.approx(8.80, rel=0.15)


def test_ratio_of_averages_is_not_the_average_of_ratios():
    mean = torch.full((50,), 0.3 / math.sqrt(50), dtype=torch.float64)
    small, large = squared_norms(mean, math.sqrt(8.80 / 50), 32, 4000, torch.Generator().manual_seed(0))
    truth = 8.80 / 0.09
    noise, signal = gradient_moments(small, large, 4, 32)
    assert noise.mean().item() == pytest.approx(8.80, rel=0.02)
    assert critical_batch_size(small, large, 4, 32, decay=1.0).item() == pytest.approx(truth, rel=0.1)
    assert abs((noise / signal).mean().item() - truth) > 0.3 * truth


def test_noise_scale_of_a_real_gradient():
    # Least squares of y = w x + noise at w = 0: per-example gradients are known, and so are their mean and variance.
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.ones(5, dtype=torch.float64) + torch.randn(20_000, generator=generator).double()
    gradients = -2 * inputs * targets.unsqueeze(-1)
    truth = (gradients.var(0).sum() / gradients.mean(0).square().sum()).item()
    batches = gradients.reshape(-1, 40, 5)
    small, large = batches[:, :4].mean(1).square().sum(-1), batches.mean(1).square().sum(-1)
    assert critical_batch_size(small, large, 4, 40, decay=1.0).item() == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize(("small", "large", "decay"), [(8, 8, 0.9), (0, 8, 0.9), (2, 8, 0.0), (2, 8, 1.5)])
def test_invalid_batches_and_decays_raise(small, large, decay):
    with pytest.raises(ValueError, match=r"need 0 < small|decay must"):
        CriticalBatchSize(small_batch_size=small, large_batch_size=large, decay=decay)
