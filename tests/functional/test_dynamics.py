import math

import numpy as np
import pyinform
import pytest
import torch

from intensive_callbacks import GaussianTransferEntropy, IntegratedInformation, TransferEntropy
from intensive_callbacks.functional import (
    gaussian_transfer_entropy,
    transfer_counts,
    transfer_entropy_compute,
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


@pytest.mark.parametrize("num_states", [2, 3])
def test_plain_transfer_entropy_agrees_with_pyinform(num_states):
    rng = np.random.default_rng(0)
    source = rng.integers(0, num_states, (6, 300))
    target = np.where(rng.random((6, 300)) < 0.6, np.roll(source, 1, axis=1), rng.integers(0, num_states, (6, 300)))
    for x, y in ((source, target), (target, source)):
        counts, _ = transfer_counts(torch.tensor(x), torch.tensor(y), num_states, num_states)
        plain = transfer_entropy_compute(counts, correction="none").item()
        assert plain == pytest.approx(pyinform.transfer_entropy(x, y, k=1), abs=1e-9)


def test_copying_a_fair_coin_transfers_one_bit_and_none_back():
    coin = torch.randint(2, (5000,), generator=torch.Generator().manual_seed(0))
    there, back = TransferEntropy(2, 2), TransferEntropy(2, 2)
    there.update(coin[1:], coin[:-1])
    back.update(coin[:-1], coin[1:])
    assert there.compute().item() == pytest.approx(1, abs=1e-3)
    assert abs(back.compute().item()) < 2e-3
    assert there.p_value(99) == 0.01
    assert back.p_value(99) > 0.05


def test_independent_series_transfer_nothing():
    generator = torch.Generator().manual_seed(0)
    series = torch.randint(8, (2, 50, 600), generator=generator)
    counts = [transfer_counts(series[0, i], series[1, i], 8, 8)[0] for i in range(50)]
    plain = torch.stack([transfer_entropy_compute(table, correction="none") for table in counts]).mean().item()
    adjusted = torch.stack([transfer_entropy_compute(table) for table in counts])
    assert plain > 0.4
    assert abs(adjusted.mean().item()) < 4 * adjusted.std().item() / math.sqrt(50)


def test_source_tied_to_the_present_transfers_nothing():
    # The target remembers itself and the source repeats the target: all that the source knows, the target knew.
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(30, 400, dtype=torch.int64)
    for step in range(1, 400):
        fresh = torch.randint(4, (30,), generator=generator)
        target[:, step] = torch.where(torch.rand(30, generator=generator) < 0.8, target[:, step - 1], fresh)
    noisy = torch.where(torch.rand(target.shape, generator=generator) < 0.7, target, 3 - target)
    values = torch.stack([transfer_entropy_compute(transfer_counts(noisy[i], target[i], 4, 4)[0]) for i in range(30)])
    assert abs(values.mean().item()) < 4 * values.std().item() / math.sqrt(30)


def test_steps_across_series_do_not_count():
    assert transfer_counts(torch.zeros(3, 5).long(), torch.zeros(3, 5).long(), 1, 1)[0].sum() == 12


@pytest.mark.parametrize("coupling", [0.8, 0.3])
def test_gaussian_transfer_of_a_coupled_autoregression(coupling):
    # y' = c x + e with x white: I(y'; x | y) = ln(1 + c^2) / 2 nats
    series = autoregression([[0.0, 0.0], [coupling, 0.0]], 50_000)
    x, y = series[..., :1], series[..., 1:]
    truth = math.log(1 + coupling**2) / 2
    assert gaussian_transfer_entropy(x, y).item() * math.log(2) == pytest.approx(truth, abs=0.006)
    assert abs(gaussian_transfer_entropy(y, x).item()) < 1e-3
    if coupling == 0.8:
        assert truth == pytest.approx(0.2473, abs=5e-5)


def test_gaussian_transfer_is_granger_causality_by_regression():
    series = autoregression([[0.5, 0.1, 0.0], [0.4, 0.3, 0.2], [0.0, 0.3, 0.4]], 2000)[0]
    x, y = series[:, :1], series[:, 1:]

    def residual(predictors):
        predictors = torch.cat([predictors, torch.ones(len(predictors), 1, dtype=torch.float64)], -1)
        fit = torch.linalg.lstsq(predictors, y[1:]).solution
        rest = y[1:] - predictors @ fit
        return (rest.T @ rest).logdet()

    plain = (residual(y[:-1]) - residual(torch.cat([y[:-1], x[:-1]], -1))) / 2 / math.log(2)
    bias = 2 / (2 * 1999) / math.log(2)
    assert gaussian_transfer_entropy(x, y).item() == pytest.approx(plain.item() - bias, abs=1e-4)


def test_gaussian_transfer_has_no_bias_where_steps_are_few():
    series = torch.randn(2000, 25, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.stack([gaussian_transfer_entropy(one[:, :2], one[:, 2:]) for one in series])
    assert abs(values.mean().item()) < 4 * values.std().item() / math.sqrt(2000)
    assert values.std() > 0.05


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: IntegratedInformation(num_components=1), "2 to 12"),
        (lambda: IntegratedInformation(num_components=13), "2 to 12"),
        (lambda: GaussianTransferEntropy(0, 1), "at least 1"),
        (lambda: TransferEntropy(2, 2, correction="miller_madow"), "adjusted or none"),
        (lambda: transfer_counts(torch.zeros(4).long(), torch.zeros(5).long(), 2, 2), "same shape"),
        (lambda: gaussian_transfer_entropy(torch.rand(4, 1), torch.rand(5, 1)), r"\[\.\.\., T, p\]"),
    ],
)
def test_invalid_systems_raise(build, match):
    with pytest.raises(ValueError, match=match):
        build()
