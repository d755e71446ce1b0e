"""What training teaches about size: how much batch pays, what sparsity costs, and what memory can be traded for."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, as_fraction, require_positive

__all__ = [
    "CheckpointTradeoff",
    "GradientMoments",
    "checkpoint_tradeoff",
    "critical_batch_size",
    "gradient_moments",
    "net_score",
    "parameter_flop_efficiency",
    "retention_interval",
    "sparse_retention",
]


class GradientMoments(NamedTuple):
    """Unbiased estimates from two batch sizes, as :func:`gradient_moments` forms them.

    Attributes:
        noise: tr(Sigma), the variance of one example's gradient, summed over parameters.
        signal: the squared norm of the true gradient; of one pair of batches it may be negative.
    """

    noise: Tensor
    signal: Tensor


def gradient_moments(
    small_norm_squared: float | Tensor,
    large_norm_squared: float | Tensor,
    small_batch_size: float,
    large_batch_size: float,
) -> GradientMoments:
    r"""Noise and signal of the gradient, from its squared norms over two batch sizes.

    .. math:: \mathrm{tr}\Sigma = \frac{|G_s|^2 - |G_l|^2}{1/B_s - 1/B_l}, \quad
        |G|^2 = \frac{B_l |G_l|^2 - B_s |G_s|^2}{B_l - B_s}

    Args:
        small_norm_squared: squared norm of the mean gradient of the small batch, of any shape.
        large_norm_squared: that of the large batch.
        small_batch_size: examples in the small batch.
        large_batch_size: examples in the large batch.

    Returns:
        Both, of the shape of the norms, in the unit of a squared gradient.

    Raises:
        ValueError: if the sizes are not 0 < small < large.

    Source:
        McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.

    Example:
        >>> gradient_moments(5.0, 2.0, small_batch_size=2, large_batch_size=8)  # 1 + 8 / 2 and 1 + 8 / 8
        GradientMoments(noise=tensor(8., dtype=torch.float64), signal=tensor(1., dtype=torch.float64))
    """
    require_batch_sizes(small_batch_size, large_batch_size)
    small, large = as_float64(small_norm_squared), as_float64(large_norm_squared)
    noise = (small - large) / (1 / small_batch_size - 1 / large_batch_size)
    signal = (large_batch_size * large - small_batch_size * small) / (large_batch_size - small_batch_size)
    return GradientMoments(noise, signal)


def require_batch_sizes(small: float, large: float) -> None:
    """Refuse batch sizes that are not 0 < small < large."""
    if not 0 < small < large < math.inf:
        raise ValueError(f"need 0 < small_batch_size < large_batch_size, got {small} and {large}")


def critical_batch_size(
    small_norm_squared: Tensor,
    large_norm_squared: Tensor,
    small_batch_size: float,
    large_batch_size: float,
    *,
    decay: float = 0.99,
) -> Tensor:
    r"""Critical batch size, as the simple gradient noise scale: the batch at which the noise equals the signal.

    .. math:: B = \mathrm{tr}\Sigma / |G|^2

    Numerator and denominator are averaged over steps apart: of single steps the ratio is badly biased, and hundreds of
    steps are needed. It assumes a Hessian near a multiple of one, and is a scale, not a threshold: below it SGD learns
    well, above it more examples save few steps. It grows during training and, measured across runs, with the amount of
    data rather than the size of the model (arXiv:2410.21676), which the source denies.

    Args:
        small_norm_squared: squared norms of the mean gradients of small batches, in order of steps, ``[n]``.
        large_norm_squared: those of the large batches, ``[n]``.
        small_batch_size: examples in a small batch.
        large_batch_size: examples in a large batch.
        decay: what a step weighs relative to the next, in (0, 1].

    Returns:
        Examples, a scalar; NaN where the averaged signal is not above 0.

    Raises:
        ValueError: if the sizes are not 0 < small < large or ``decay`` is outside (0, 1].

    Source:
        McCandlish et al. 2018, arXiv:1812.06162; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> small, large = torch.tensor([5.2, 4.8]), torch.tensor([2.0, 2.0])
        >>> critical_batch_size(small, large, small_batch_size=2, large_batch_size=8, decay=1.0)
        tensor(8., dtype=torch.float64)
    """
    moments = gradient_moments(small_norm_squared, large_norm_squared, small_batch_size, large_batch_size)
    weights = step_weights(moments.noise, decay)
    return noise_scale(weights @ moments.noise, weights @ moments.signal)


def step_weights(values: Tensor, decay: float) -> Tensor:
    """What each of the steps weighs after the last of them, ``[n]``."""
    if not 0 < decay <= 1:
        raise ValueError(f"decay must lie in (0, 1], got {decay}")
    age = torch.arange(len(values) - 1, -1, -1, device=values.device)
    return torch.pow(torch.full_like(values, decay), age)


def noise_scale(noise: Tensor, signal: Tensor) -> Tensor:
    """Noise over signal; NaN where the signal is not above 0."""
    return noise / torch.where(signal > 0, signal, math.nan)


def parameter_flop_efficiency(accuracy: float | Tensor, num_params: float, num_flops: float) -> Tensor:
    r"""Accuracy over parameters and FLOPs: percent points per 1e9 parameters and 1e12 floating point operations.

    .. math:: \frac{100 a}{(N / 10^9)(F / 10^{12})}

    FLOPs grow with N, so it falls about as 1/N^2: of two models, the one of a tenth of the size wins unless the other
    is a hundred times as accurate, which no accuracy above chance allows. It ranks sizes, not merit.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_params: parameters, total or active: say which.
        num_flops: floating point operations (1 MAC = 2) per token or per example: say which.

    Returns:
        Of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1] or a count is not above 0.

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 1.

    Example:
        >>> parameter_flop_efficiency(0.5, num_params=7e9, num_flops=14e9)
        tensor(510.2041, dtype=torch.float64)
    """
    cost = require_positive("num_params", num_params) / 1e9 * (require_positive("num_flops", num_flops) / 1e12)
    return 100.0 * as_fraction("accuracy", accuracy) / cost


def net_score(accuracy: float | Tensor, num_params: float, num_flops: float) -> Tensor:
    r"""NetScore: accuracy against parameters and operations, in decibels.

    .. math:: 20 \log_{10} \frac{A^2}{\sqrt{p} \sqrt{m}}

    with A in percent, p in millions of parameters and m in 1e9 multiply-adds (half the FLOPs); other units shift every
    score alike. Ten times the size at twice that times the operations costs 20 dB, twice the accuracy brings 12.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_params: parameters.
        num_flops: floating point operations (1 MAC = 2) of one inference.

    Returns:
        Decibels, of the shape of ``accuracy``; -inf at accuracy 0.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1] or a count is not above 0.

    Source:
        Wong 2018, arXiv:1806.05512.

    Example:
        >>> net_score(0.761, num_params=25.6e6, num_flops=8.2e9)  # ResNet-50
        tensor(55.0451, dtype=torch.float64)
    """
    millions = require_positive("num_params", num_params) / 1e6
    multiply_adds = require_positive("num_flops", num_flops) / 2e9
    percent = 100.0 * as_fraction("accuracy", accuracy)
    return 40.0 * percent.log10() - 10.0 * math.log10(millions * multiply_adds)


def sparse_retention(sparse_correct: Tensor, dense_correct: Tensor) -> Tensor:
    r"""Sparse retention: the share of its accuracy that a model keeps when pruned, on the same examples.

    .. math:: R = a_{sparse} / a_{dense}

    Says nothing by itself: name the sparsity, and that the ticket was trained or not. :func:`retention_interval` has
    its interval, from the examples on which the two differ.

    Args:
        sparse_correct: booleans, ``[n]``.
        dense_correct: booleans of the same examples, ``[n]``.

    Returns:
        A scalar, above 1 where pruning helped; NaN where the dense model was never right.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Frankle and Carbin 2019, arXiv:1803.03635; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> sparse_retention(torch.tensor([True, True, False, False]), torch.tensor([True, True, True, True]))
        tensor(0.5000, dtype=torch.float64)
    """
    return retention(paired_counts(sparse_correct, dense_correct))


def paired_counts(sparse_correct: Tensor, dense_correct: Tensor) -> Tensor:
    """Examples by who was right, ``[2, 2]`` int64, the sparse model's row by the dense one's column."""
    if sparse_correct.shape != dense_correct.shape:
        raise ValueError(
            "both models must be judged on the same examples, "
            f"got shapes {tuple(sparse_correct.shape)} and {tuple(dense_correct.shape)}"
        )
    sparse, dense = sparse_correct.to(torch.bool), dense_correct.to(torch.bool)
    cells = [((sparse == row) & (dense == column)).sum() for row in (False, True) for column in (False, True)]
    return torch.stack(cells).reshape(2, 2)


def retention(counts: Tensor) -> Tensor:
    """Accuracy of the row over accuracy of the column, of a table of :func:`paired_counts`."""
    table = as_float64(counts)
    dense = table[:, 1].sum()
    return table[1].sum() / torch.where(dense > 0, dense, math.nan)


def retention_interval(counts: Tensor, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    r"""Interval of a sparse retention, from the examples on which exactly one of the models was right.

    .. math:: R \exp\left(\pm z \sqrt{\frac{b + c}{(a + b)(a + c)}}\right)

    with a right in both and b, c in one alone: McNemar's discordant pairs, on the logarithm of the ratio. Made for at
    least ten discordant pairs. Seeds and data sets are not in it: it is about these two networks on such examples.

    Args:
        counts: examples by who was right, ``[2, 2]``, sparse by dense.
        confidence: of the interval, in (0, 1).

    Returns:
        The lower and the upper end; NaN where a model was never right.

    Source:
        Nam and Blackwelder 2002, for the ratio of paired proportions.

    Example:
        >>> retention_interval(torch.tensor([[100, 40], [10, 850]]))
        (tensor(0.9511, dtype=torch.float64), tensor(0.9817, dtype=torch.float64))
    """
    table = as_float64(counts)
    both, alone = table[1, 1], table[1, 0] + table[0, 1]
    product = (both + table[1, 0]) * (both + table[0, 1])
    error = (alone / torch.where(product > 0, product, math.nan)).sqrt()
    z = torch.special.ndtri(as_float64((1 + confidence) / 2)).to(error.device)
    ratio = retention(counts)
    return ratio * (-z * error).exp(), ratio * (z * error).exp()


class CheckpointTradeoff(NamedTuple):
    """What activation checkpointing keeps and repeats, as :func:`checkpoint_tradeoff` counts it.

    Attributes:
        memory: layers' activations held at once.
        recomputed: layers that run a second time.
    """

    memory: int
    recomputed: int


def checkpoint_tradeoff(num_layers: int, segment: int | None = None) -> CheckpointTradeoff:
    r"""Memory and recomputation of activation checkpointing with segments of k layers.

    .. math:: \text{memory} = \lceil L / k \rceil + k, \quad \text{recomputed} = L - \lceil L / k \rceil

    Memory is least, about 2 sqrt(L), near k = sqrt(L). Recomputation is not: it is nearly all layers once more, a third
    of a step, where the source says sqrt(L). Layers of equal size are assumed.

    Args:
        num_layers: L.
        segment: k; the one of least memory if not given.

    Returns:
        Both, in layers.

    Raises:
        ValueError: unless 1 <= segment <= num_layers.

    Source:
        Chen et al. 2016, arXiv:1604.06174; "Intensive Intelligence: Mathematical Foundations", reversible computing.

    Example:
        >>> checkpoint_tradeoff(64)
        CheckpointTradeoff(memory=16, recomputed=56)
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    if segment is None:
        segment = min(range(1, num_layers + 1), key=lambda k: (-(-num_layers // k) + k, k))
    if not 1 <= segment <= num_layers:
        raise ValueError(f"segment must lie in [1, num_layers = {num_layers}], got {segment}")
    num_segments = -(-num_layers // segment)
    return CheckpointTradeoff(num_segments + segment, num_layers - num_segments)
