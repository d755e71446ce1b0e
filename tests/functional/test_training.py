import math

import pytest
import torch
from scipy.stats import norm

from intensive_callbacks import CriticalBatchSize, SparseRetention
from intensive_callbacks.functional import (
    checkpoint_tradeoff,
    critical_batch_size,
    gradient_moments,
    net_score,
    parameter_flop_efficiency,
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
def test_batches_and_decays_that_are_none_are_refused(small, large, decay):
    with pytest.raises(ValueError, match=r"need 0 < small|decay must"):
        CriticalBatchSize(small_batch_size=small, large_batch_size=large, decay=decay)


def test_a_model_ten_times_larger_would_have_to_be_a_hundred_times_as_accurate():
    small = parameter_flop_efficiency(0.5, num_params=7e9, num_flops=14e9)
    large = parameter_flop_efficiency(0.5, num_params=70e9, num_flops=140e9)
    assert (small / large).item() == pytest.approx(100)
    drop = net_score(0.5, 7e9, 14e9) - net_score(0.5, 70e9, 140e9)
    assert drop.item() == pytest.approx(20)
    assert (net_score(1.0, 7e9, 14e9) - net_score(0.5, 7e9, 14e9)).item() == pytest.approx(40 * math.log10(2))


def retention_of(both, only_sparse, only_dense, neither):
    metric = SparseRetention()
    sparse = torch.tensor([True] * (both + only_sparse) + [False] * (only_dense + neither))
    dense = torch.tensor([True] * both + [False] * only_sparse + [True] * only_dense + [False] * neither)
    metric.update(sparse, dense)
    return metric


def test_retention_and_its_interval_by_hand():
    metric = retention_of(850, 10, 40, 100)
    assert metric.compute().item() == pytest.approx(860 / 890)
    error = norm.ppf(0.975) * math.sqrt(50 / (860 * 890))
    low, high = (end.item() for end in metric.interval())
    assert (low, high) == pytest.approx((860 / 890 * math.exp(-error), 860 / 890 * math.exp(error)))
    assert metric.interval(0.99)[0] < low


def test_models_that_agree_on_every_example_leave_no_doubt():
    low, high = retention_of(90, 0, 0, 10).interval()
    assert (low, high) == (1, 1)


def test_interval_holds_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    held, truth = 0, 0.80 / 0.85
    for _ in range(400):
        dense = torch.rand(1000, generator=generator) < 0.85
        kept = torch.rand(1000, generator=generator) < torch.where(dense, 0.90, 0.035 / 0.15)
        metric = SparseRetention()
        metric.update(kept, dense)
        low, high = metric.interval()
        held += int(low <= truth <= high)
    assert 0.92 <= held / 400 <= 0.98


def test_different_examples_are_refused():
    with pytest.raises(ValueError, match="same examples"):
        SparseRetention().update(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))


def test_checkpointing_by_segments_of_the_root_repeats_nearly_every_layer():
    assert checkpoint_tradeoff(64) == (16, 56)
    assert checkpoint_tradeoff(64, segment=64) == (65, 63)
    assert checkpoint_tradeoff(64, segment=1) == (65, 0)
    for num_layers in (1, 2, 10, 97):
        memory, recomputed = checkpoint_tradeoff(num_layers)
        assert memory == min(checkpoint_tradeoff(num_layers, k)[0] for k in range(1, num_layers + 1))
        assert memory <= 2 * math.sqrt(num_layers) + 1
        assert recomputed < num_layers
    for arguments in ((0,), (5, 0), (5, 6)):
        with pytest.raises(ValueError, match="must"):
            checkpoint_tradeoff(*arguments)
