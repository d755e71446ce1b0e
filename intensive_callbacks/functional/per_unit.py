"""What the foundations ask for by the token or the component, and a patch's quality factor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from intensive_callbacks.functional.allocation import salience_divergence
from intensive_callbacks.functional.dynamics import gaussian_transfer_entropy
from intensive_callbacks.functional.information import (
    count_labels,
    discrete_mutual_information,
    shannon_entropy_compute,
)
from intensive_callbacks.functional.integrated_information import integrated_information
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

if TYPE_CHECKING:
    from torch import Tensor

    from intensive_callbacks.functional.information import Correction

__all__ = [
    "integrated_information_per_component",
    "quality_factor",
    "quality_factor_compute",
    "salience_divergence_per_token",
    "transfer_entropy_per_token",
]


@checked
def quality_factor(
    query: Tensor, patch: Tensor, *, num_queries: int, num_patches: int, correction: Correction = "adjusted"
) -> Tensor:
    r"""Quality factor: the share of a patch's information that the query tells.

    .. math:: Q = I(\text{query}; \text{patch}) / H(\text{patch})

    Args:
        query: labels of queries, integers in [-1, K) of any shape; -1 for none.
        patch: labels of patches, integers in [-1, L), of the same shape.
        num_queries: K.
        num_patches: L.
        correction: that of :func:`mutual_information`; the entropy is that of the counts.

    Returns:
        A scalar, 1 where the query fixes the patch; below 0 by chance; NaN where all patches are alike.

    Raises:
        ValueError: as :func:`contingency_table`.

    Source:
        "Intensive Intelligence: Mathematical Foundations", token allocation.

    Example:
        >>> patch = torch.arange(400) % 4
        >>> quality_factor(patch // 2, patch, num_queries=2, num_patches=4, correction="none")
        tensor(0.5000, dtype=torch.float64)
    """
    counts, num_outside = count_labels({"query": query, "patch": patch}, (num_queries, num_patches))
    return unless_invalid(quality_factor_compute(counts, correction=correction), num_outside)


@checked
def quality_factor_compute(counts: Tensor, *, correction: Correction = "adjusted") -> Tensor:
    """The quality factor of contingency tables ``[..., K, L]``, queries by patches; see :func:`quality_factor`.

    Example:
        >>> quality_factor_compute(torch.tensor([[50, 50, 0, 0], [0, 0, 50, 50]]), correction="none")
        tensor(0.5000, dtype=torch.float64)
    """
    information = discrete_mutual_information(counts, correction=correction)
    entropy = shannon_entropy_compute(counts.sum(-2), correction="none")
    return information / torch.where(entropy > 0, entropy, math.nan)


@checked
def salience_divergence_per_token(human: Tensor, model: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Kullback-Leibler divergence of people's salience from a model's over the number of tokens, in nats per token.

    Args:
        human: not negative, ``[..., P]``, one value for each of P tokens.
        model: not negative, ``[..., P]``.
        smoothing: that of :func:`salience_divergence`.

    Returns:
        Nats per token, ``[...]``.

    Raises:
        ValueError: as :func:`salience_divergence`.

    Source:
        "Intensive Intelligence: Mathematical Foundations", perspectival knowing.

    Example:
        >>> salience_divergence_per_token(torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5]))
        tensor(0.1840, dtype=torch.float64)
    """
    return salience_divergence(human, model, smoothing=smoothing) / human.shape[-1]


@checked
def transfer_entropy_per_token(source: Tensor, target: Tensor) -> Tensor:
    """Gaussian transfer entropy from tokens to a target, over the number of tokens, in bits per step and token.

    Args:
        source: ``[..., T, p]`` in order of time, one dimension for each of p tokens.
        target: ``[..., T, q]``.

    Returns:
        Bits per step and token, a scalar; see :func:`gaussian_transfer_entropy`.

    Raises:
        ValueError: if the shapes do not fit.

    Source:
        "Intensive Intelligence: Mathematical Foundations", transfer entropy.

    Example:
        >>> noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> transfer_entropy_per_token(noise, noise.roll(1, 0) + 0.01 * noise.flip(0)) > 6
        tensor(True)
    """
    return gaussian_transfer_entropy(source, target) / source.shape[-1]


@checked
def integrated_information_per_component(states: Tensor) -> Tensor:
    """Integrated information over the number of components, in bits per component.

    Args:
        states: ``[..., T, d]`` in order of time, 2 to 12 components.

    Returns:
        Bits per component, a scalar; see :func:`integrated_information`.

    Raises:
        ValueError: if the shape does not fit.

    Source:
        "Intensive Intelligence: Mathematical Foundations", integrated information.

    Example:
        >>> noise = torch.randn(4, 1000, 3, generator=torch.Generator().manual_seed(0))
        >>> integrated_information_per_component(noise).abs() < 0.01
        tensor(True)
    """
    return integrated_information(states) / states.shape[-1]
