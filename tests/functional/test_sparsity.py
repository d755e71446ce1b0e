import math

import pytest
import torch
from scipy.stats import norm

from intensive_callbacks import SparseRetention


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


def test_retention_interval_has_its_coverage():
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


def test_different_examples_raise():
    with pytest.raises(ValueError, match="same examples"):
        SparseRetention().update(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))
