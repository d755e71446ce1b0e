import math

import pytest
import torch

from intensive_callbacks.functional.per_unit import (
    integrated_information_per_component,
    quality_factor,
    salience_divergence_per_token,
    transfer_entropy_per_token,
)


def test_quality_factor_is_one_where_the_query_fixes_the_patch():
    patch = torch.arange(400) % 4
    assert quality_factor(patch, patch, num_queries=4, num_patches=4).item() == pytest.approx(1)


def test_quality_factor_of_half_the_bits():
    patch = torch.arange(400) % 4
    value = quality_factor(patch // 2, patch, num_queries=2, num_patches=4, correction="none")
    assert value.item() == pytest.approx(0.5)


def test_quality_factor_of_independent_labels_is_near_zero():
    query, patch = torch.randint(100, (2, 1000), generator=torch.Generator().manual_seed(0))
    assert abs(quality_factor(query, patch, num_queries=100, num_patches=100).item()) < 0.05


def test_quality_factor_of_equal_patches_is_nan():
    query = torch.arange(10) % 2
    assert quality_factor(query, torch.zeros_like(query), num_queries=2, num_patches=2).isnan()


def test_divergence_per_token_against_closed_form():
    human, model = torch.tensor([0.9, 0.1, 0.0, 0.0]), torch.full((4,), 0.25)
    expected = (0.9 * math.log(3.6) + 0.1 * math.log(0.4)) / 4
    assert salience_divergence_per_token(human, model).item() == pytest.approx(expected, rel=1e-5)


def test_transfer_entropy_per_token_of_independent_channels():
    noise = torch.randn(2, 200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = noise[1].clone()
    target[1:] += 0.8 * noise[0, :-1]
    assert transfer_entropy_per_token(noise[0], target).item() == pytest.approx(0.5 * math.log2(1.64), rel=0.02)


def test_phi_per_component_of_a_swap():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 300, 2, generator=generator, dtype=torch.float64).mul(0.8)
    states = torch.zeros_like(noise)
    for step in range(1, 300):
        states[:, step] = 0.6 * states[:, step - 1].flip(-1) + noise[:, step]
    # The whole tells -ln(1 - 0.36) nats, each part alone nothing.
    expected = -math.log2(1 - 0.36) / 2
    assert integrated_information_per_component(states[:, 50:]).item() == pytest.approx(expected, rel=0.02)
