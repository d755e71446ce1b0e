import math

import pytest
import torch
from torch import nn

from intensive_callbacks import EffectiveDimensionality, LayerwiseMean
from intensive_callbacks.functional import (
    effective_dimensionality,
    effective_rank,
    empirical_ntk,
    layerwise_standard_error,
    ntk_drift,
)


def correlated_layers(num_draws, num_layers, rho, seed=0):
    """AR(1) sequences of unit variance."""
    noise = torch.randn(num_draws, num_layers, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = noise.clone()
    for layer in range(1, num_layers):
        values[:, layer] = rho * values[:, layer - 1] + math.sqrt(1 - rho**2) * noise[:, layer]
    return values


def test_rank_five_isotropic_in_fifty_dimensions_is_five():
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(50, 5, generator=generator, dtype=torch.float64))
    assert effective_rank(basis @ basis.T).item() == pytest.approx(5)
    samples = torch.randn(20_000, 5, generator=generator, dtype=torch.float64) @ basis.T + 100.0
    assert effective_dimensionality(samples).item() == pytest.approx(5, rel=1e-3)


def test_few_samples_read_too_little_by_d_over_2n():
    features = torch.randn(500, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert effective_dimensionality(features).item() == pytest.approx(50 * (1 - 50 / 1000), rel=0.01)


def test_padding_does_not_count_whatever_it_holds():
    features = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    padded = torch.where(mask.unsqueeze(-1), features, math.nan)
    metric = EffectiveDimensionality(num_features=3, per_token=True)
    metric.update(padded, mask)
    assert metric.compute().item() == pytest.approx(effective_dimensionality(features[mask]).item() / 5)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_error_of_a_mean_over_correlated_layers(rho):
    values = correlated_layers(4000, 64, rho)
    spread = values.mean(-1).std().item()
    assert layerwise_standard_error(values).mean().item() == pytest.approx(spread, rel=0.1)
    naive = (values.std(-1) / 8).mean().item()
    assert naive == pytest.approx(spread, rel=0.05) if rho == 0 else naive < 0.55 * spread


def test_uncorrelated_layers_have_the_independent_error():
    values = torch.tensor([1.0, -2.0, 1.5, -1.0, 2.0, -1.5], dtype=torch.float64)
    metric = LayerwiseMean(num_layers=6)
    metric.update(values)
    assert metric.standard_error().item() == pytest.approx(values.std().item() / math.sqrt(6))


def test_fewer_than_four_layers_have_no_error():
    for num_layers in range(4):
        assert layerwise_standard_error(torch.rand(num_layers)).isnan()


def test_kernel_agrees_with_one_gradient_at_a_time():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).eval()
    inputs = torch.randn(5, 4)
    parameters = list(model.parameters())
    outputs = model(inputs)
    rows = [
        [torch.cat([g.flatten() for g in torch.autograd.grad(o, parameters, retain_graph=True)]) for o in row]
        for row in outputs
    ]
    gradients = torch.stack([torch.stack(row) for row in rows]).double()
    expected = torch.einsum("icp,jcp->ij", gradients, gradients) / 3
    torch.testing.assert_close(empirical_ntk(model, inputs), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(empirical_ntk(model, inputs, chunk_size=2), expected, rtol=1e-5, atol=1e-6)


def test_kernel_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    empirical_ntk(model, torch.randn(6, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def train(model, inputs, targets):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()


def test_ntk_drifts_only_for_a_nonlinear_model():
    torch.manual_seed(0)
    inputs, targets = torch.randn(12, 4), torch.randn(12, 1)
    for model, drifts in ((nn.Linear(4, 1), False), (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), True)):
        reference = empirical_ntk(model, inputs)
        train(model, inputs, targets)
        drift = ntk_drift(empirical_ntk(model, inputs), reference).item()
        assert (drift > 0.01) if drifts else (abs(drift) < 1e-12)


def test_wrong_shapes_raise():
    with pytest.raises(ValueError, match="same probe"):
        ntk_drift(torch.eye(2), torch.eye(3))
    with pytest.raises(ValueError, match=r"\[\.\.\., 4\]"):
        LayerwiseMean(num_layers=4).update(torch.rand(3))
    with pytest.raises(ValueError, match=r"\[\.\.\., T, 4\]"):
        EffectiveDimensionality(num_features=4, per_token=True).update(torch.rand(3, 4))
    with pytest.raises(ValueError, match="mask must be"):
        EffectiveDimensionality(num_features=4).update(torch.rand(3, 4), torch.ones(4, dtype=torch.bool))
