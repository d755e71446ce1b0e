"""Training, as metrics: :mod:`intensive_callbacks.functional.training` has the mathematics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import training
from intensive_callbacks.functional.checks import require_positive
from intensive_callbacks.metrics.base import AccuracyMetric, IntensiveMetric, companion

__all__ = ["CriticalBatchSize", "NetScore", "ParameterFlopEfficiency", "SparseRetention"]


class CriticalBatchSize(IntensiveMetric):
    r"""Critical batch size, as the simple gradient noise scale: the batch at which the noise equals the signal.

    .. math:: B = \mathrm{tr}\Sigma / |G|^2

    ``update(small_norm_squared, large_norm_squared)`` takes the squared norms of the mean gradients over a small and a
    large batch that holds it, numbers or ``[n]`` in order of steps; under DDP the small one is a process's own before
    the all-reduce. ``compute`` returns examples, NaN where the averaged signal is not above 0: take hundreds of steps.
    Numerator and denominator are averaged apart, each with ``decay`` per step. A scale, not a threshold.

    Args:
        small_batch_size: examples in a small batch.
        large_batch_size: examples in a large batch.
        decay: what a step weighs relative to the next, in (0, 1].
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if the sizes are not 0 < small < large or ``decay`` is outside (0, 1].

    Source:
        McCandlish et al. 2018, arXiv:1812.06162; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import CriticalBatchSize
        >>> noise_scale = CriticalBatchSize(small_batch_size=2, large_batch_size=8, decay=1.0)
        >>> noise_scale.update(5.2, 2.0)
        >>> noise_scale.update(4.8, 2.0)
        >>> noise_scale.compute()
        tensor(8., dtype=torch.float64)
    """

    higher_is_better = None
    undefined = "no step has been seen, or too few for the averaged signal to be above 0"
    noise: Tensor
    signal: Tensor

    def __init__(
        self,
        small_batch_size: float,
        large_batch_size: float,
        *,
        decay: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        training.require_batch_sizes(small_batch_size, large_batch_size)
        self.small_batch_size = small_batch_size
        self.large_batch_size = large_batch_size
        self.decay = decay
        # Sums that decay, whose ratio is that of the averages: they still add over processes.
        self.add_sum("noise")
        self.add_sum("signal")
        training.step_weights(self.noise.reshape(1), decay)  # refuses a decay that is none

    def update(self, small_norm_squared: float | Tensor, large_norm_squared: float | Tensor) -> None:
        """Add one step, or several in order."""
        moments = training.gradient_moments(
            small_norm_squared, large_norm_squared, self.small_batch_size, self.large_batch_size
        )
        for name in ("noise", "signal"):
            values = getattr(moments, name).detach().reshape(-1).to(self.noise.device)
            weights = training.step_weights(values, self.decay)
            setattr(self, name, getattr(self, name) * self.decay ** len(values) + weights @ values)

    def compute(self) -> Tensor:
        """The ratio of the averages."""
        return training.noise_scale(self.noise, self.signal)


class _AccuracyForBoth(AccuracyMetric):
    def __init__(self, num_params: float, num_flops: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_params = require_positive("num_params", num_params)
        self.num_flops = require_positive("num_flops", num_flops)


class ParameterFlopEfficiency(_AccuracyForBoth):
    r"""Accuracy over parameters and FLOPs: percent points per 1e9 parameters and 1e12 floating point operations.

    .. math:: \frac{100 a}{(N / 10^9)(F / 10^{12})}

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted. It
    falls about as 1/N^2: it ranks sizes, not merit.

    Args:
        num_params: parameters, total or active: say which. The callback gives the active ones.
        num_flops: floating point operations (1 MAC = 2) per token or per example: say which.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a count is not above 0; on update, if an accuracy is a number outside [0, 1].

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 1.

    Example:
        >>> from intensive_callbacks import ParameterFlopEfficiency
        >>> efficiency = ParameterFlopEfficiency(num_params=7e9, num_flops=14e9)
        >>> efficiency.update(0.5)
        >>> efficiency.compute()
        tensor(510.2041, dtype=torch.float64)
    """

    plot_lower_bound = 0.0

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return training.parameter_flop_efficiency(accuracy, self.num_params, self.num_flops)


class NetScore(_AccuracyForBoth):
    r"""NetScore: accuracy against parameters and operations, in decibels.

    .. math:: 20 \log_{10} \frac{A^2}{\sqrt{p} \sqrt{m}}

    with A in percent, p in millions of parameters and m in 1e9 multiply-adds. ``update(accuracy, num_examples=None)``
    takes a fraction in [0, 1] and the examples it stands for; ``compute`` returns a scalar, NaN before the first update
    and -inf at accuracy 0; ``standard_error`` its standard error where examples were counted.

    Args:
        num_params: parameters, total or active: say which. The callback gives the active ones.
        num_flops: floating point operations (1 MAC = 2) of one inference.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a count is not above 0; on update, if an accuracy is a number outside [0, 1].

    Source:
        Wong 2018, arXiv:1806.05512.

    Example:
        >>> from intensive_callbacks import NetScore
        >>> score = NetScore(num_params=25.6e6, num_flops=8.2e9)
        >>> score.update(0.761)
        >>> score.compute()
        tensor(55.0451, dtype=torch.float64)
    """

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return training.net_score(accuracy, self.num_params, self.num_flops)


class SparseRetention(IntensiveMetric):
    r"""Sparse retention: the share of its accuracy that a model keeps when pruned, on the same examples.

    .. math:: R = a_{sparse} / a_{dense}

    ``update(sparse_correct, dense_correct)`` takes booleans of one shape, the same examples in the same order;
    ``compute`` returns a scalar, above 1 where pruning helped, NaN where the dense model was never right; ``interval``
    McNemar's, from the examples on which the two differ. Name the sparsity beside it.

    Args:
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: on update, if the shapes differ.

    Source:
        Frankle and Carbin 2019, arXiv:1803.03635; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import SparseRetention
        >>> retention = SparseRetention()
        >>> retention.update(torch.tensor([True, True, False, False]), torch.tensor([True, True, True, False]))
        >>> retention.compute()
        tensor(0.6667, dtype=torch.float64)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    undefined = "the dense model was never right"
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("counts", (2, 2), torch.int64)

    def update(self, sparse_correct: Tensor, dense_correct: Tensor) -> None:
        """Count the examples of one batch by who was right."""
        self.counts += training.paired_counts(sparse_correct, dense_correct)

    def compute(self) -> Tensor:
        """Accuracy of the sparse over accuracy of the dense model."""
        return training.retention(self.counts)

    @companion
    def interval(self, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
        """The interval of :meth:`compute`, from the examples on which exactly one of the models was right."""
        return training.retention_interval(self.counts, confidence)
