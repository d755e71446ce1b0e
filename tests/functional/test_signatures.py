"""Arguments are what the signature says, or refused by their name, in one place for all functions and metrics."""

import inspect
import math

import numpy as np
import pytest
import torch

from intensive_callbacks import functional, metrics
from intensive_callbacks.functional import (
    checkpoint_tradeoff,
    performance_per_parameter,
    query_content_coupling,
    selection_counts,
    shannon_entropy,
)

FUNCTIONS = [each for each in vars(functional).values() if inspect.isfunction(each)]
METRICS = [each for each in vars(metrics).values() if isinstance(each, type)]
NOT_DENSE = [
    torch.complex(torch.ones(3), torch.ones(3)),
    torch.ones(3).to_sparse(),
    np.ones(3),
    [1.0, 2.0, 3.0],
    0.5,
    None,
    "three",
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_public_function_is_checked(function):
    assert hasattr(function, "__wrapped__")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_every_constructor_and_update_is_checked(metric):
    assert hasattr(metric.update, "__wrapped__")
    assert hasattr(metric.__init__, "__wrapped__")


@pytest.mark.parametrize("wrong", NOT_DENSE, ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_dense_tensor_is_named(wrong):
    with pytest.raises(TypeError, match="relevance must be a dense tensor of real numbers, got"):
        query_content_coupling(wrong, torch.ones(3))
    with pytest.raises(TypeError, match="token_budgets must be a dense tensor of real numbers, got"):
        metrics.QueryContentCoupling().update(torch.ones(3), wrong)


@pytest.mark.parametrize("number", [np.float64(2e9), np.float32(2e9), np.int64(2_000_000_000), torch.tensor(2e9), 2e9])
def test_numbers_of_numpy_and_tensors_are_numbers(number):
    assert performance_per_parameter(np.float32(0.5), number).item() == pytest.approx(25.0)
    metric = metrics.PerformancePerParameter(num_params=number)
    metric.update(0.5, num_examples=np.int64(10))
    assert metric.compute().item() == pytest.approx(25.0)


@pytest.mark.parametrize("number", [1j, "1", [1.0], None, torch.ones(2)])
def test_what_is_no_number_is_named(number):
    with pytest.raises(TypeError, match="num_params must be a real number, got"):
        performance_per_parameter(0.5, number)


def test_integers_beyond_the_exact_floats_are_refused():
    with pytest.raises(ValueError, match="num_layers must be an integer of at most"):
        checkpoint_tradeoff(2**53 + 1)
    with pytest.raises(ValueError, match="num_params must be a finite number that a float can hold"):
        performance_per_parameter(0.5, 10**400)


def test_tables_larger_than_memory_are_refused():
    with pytest.raises(ValueError, match="num_experts must make a table"):
        selection_counts(torch.zeros(1, 1, dtype=torch.int64), 2**31)
    with pytest.raises(ValueError, match="num_classes and num_dimensions must make a table"):
        metrics.TaskInformation(num_classes=2**31)


def test_integer_masks_are_taken_and_scores_refused():
    labels = torch.tensor([0, 1, 1, 1])
    assert shannon_entropy(labels, 2, torch.tensor([1, 1, 0, 0]), correction="none") == 1
    with pytest.raises(TypeError, match="mask must be a tensor of booleans"):
        shannon_entropy(labels, 2, torch.zeros(4))


def test_accuracy_outside_zero_to_one_in_a_tensor_is_nan():
    values = performance_per_parameter(torch.tensor([0.5, 1.5, -0.1, math.inf]), 1e9)
    torch.testing.assert_close(values, torch.tensor([50.0, *[math.nan] * 3], dtype=torch.float64), equal_nan=True)


def test_update_of_a_checked_metric_stays_on_the_device():
    # A meta tensor has no content, so whatever looked at one would raise.
    metric = metrics.ConfigurationEntropyScore(num_experts=4).to("meta")
    metric.update(torch.zeros(3, 2, dtype=torch.int64, device="meta"), torch.ones(3, dtype=torch.bool, device="meta"))
    scores = metrics.RouterMargin(num_experts=4).to("meta")
    scores.update(torch.ones(3, 4, device="meta"))


def test_best_segment_of_checkpointing_is_that_of_a_search():
    for num_layers in range(1, 400):
        best = min(range(1, num_layers + 1), key=lambda k: (-(-num_layers // k) + k, k))
        assert checkpoint_tradeoff(num_layers) == checkpoint_tradeoff(num_layers, best)
    assert checkpoint_tradeoff(2**40).memory == 2**21
