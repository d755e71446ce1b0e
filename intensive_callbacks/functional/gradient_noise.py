"""The noise of the gradient, and the batch size that it suggests."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_broadcast, require_one_shape
from intensive_callbacks.functional.signatures import checked

__all__ = ["GradientMoments", "critical_batch_size", "critical_batch_size_compute", "gradient_moments"]


class GradientMoments(NamedTuple):
    """Unbiased estimates from two batch sizes, as :func:`gradient_moments` forms them.

    Attributes:
        noise: tr(Sigma), the variance of one example's gradient, summed over parameters.
        signal: the squared norm of the true gradient; of one pair of batches it may be negative.
    """

    noise: Tensor
    signal: Tensor


@checked
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
    if small.dim() and large.dim():
        require_one_shape(("small_norm_squared", "large_norm_squared"), small, large)
    noise = (small - large) / (1 / small_batch_size - 1 / large_batch_size)
    signal = (large_batch_size * large - small_batch_size * small) / (large_batch_size - small_batch_size)
    return GradientMoments(noise, signal)


def require_batch_sizes(small: float, large: float) -> None:
    """Batch sizes must be 0 < small < large."""
    if not 0 < small < large < math.inf:
        raise ValueError(f"need 0 < small_batch_size < large_batch_size, got {small} and {large}")


@checked
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
    for name, norms in (("small_norm_squared", small_norm_squared), ("large_norm_squared", large_norm_squared)):
        if norms.dim() != 1:
            raise ValueError(f"{name} must be [n], one for each step, got {tuple(norms.shape)}")
    moments = gradient_moments(small_norm_squared, large_norm_squared, small_batch_size, large_batch_size)
    weights = step_weights(moments.noise, decay)
    return critical_batch_size_compute(weights @ moments.noise, weights @ moments.signal)


def step_weights(values: Tensor, decay: float) -> Tensor:
    """What each of the steps weighs after the last of them, ``[n]``."""
    if not 0 < decay <= 1:
        raise ValueError(f"decay must lie in (0, 1], got {decay}")
    age = torch.arange(len(values) - 1, -1, -1, device=values.device)
    return torch.pow(torch.full_like(values, decay), age)


@checked
def critical_batch_size_compute(noise: Tensor, signal: Tensor) -> Tensor:
    """Noise over signal; NaN where the signal is not above 0."""
    require_broadcast(noise=noise, signal=signal)
    return noise / torch.where(signal > 0, signal, math.nan)
