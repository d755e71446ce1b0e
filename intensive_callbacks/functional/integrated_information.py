"""What a system tells of its next state beyond its parts."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_square
from intensive_callbacks.functional.dynamics import full_rank_covariance, gaussian_entropy, lagged_moments
from intensive_callbacks.functional.signatures import checked

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["integrated_information", "integrated_information_compute", "total_correlation"]

MAX_COMPONENTS = 12
"""The largest system whose bipartitions are tried one by one: 2047 of them."""


@checked
def total_correlation(matrix: Tensor) -> Tensor:
    r"""Total correlation of Gaussian variables: how far they are from independent, in bits.

    .. math:: \sum_i H(X_i) - H(X) = -\tfrac12 \log_2 |\mathrm{corr}(X)|

    Args:
        matrix: their covariance, ``[d, d]``.

    Returns:
        Bits, a scalar, not negative; infinite or NaN for a covariance without full rank.

    Source:
        Watanabe 1960.

    Example:
        >>> total_correlation(torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
        tensor(0.3219, dtype=torch.float64)
    """
    require_square("matrix", matrix)
    values = as_float64(matrix)
    return (values.diagonal().log().sum() - values.logdet()) / 2 / math.log(2)


@checked
def integrated_information(states: Tensor) -> Tensor:
    r"""Integrated information: what a present tells of the next state beyond its two best parts, in bits.

    .. math:: \Phi = \min_{A, B} \; I(Z_t; Z_{t+1}) - I(A_t; A_{t+1}) - I(B_t; B_{t+1})

    Whole minus sum over all bipartitions, of a stationary Gaussian process; no partition is favored for its size. It
    is none of the Phi of integrated information theory and says nothing of consciousness; it may be negative where the
    parts share what they remember, which is why total correlation belongs beside it. For a few components (three
    scorers, a handful of heads): at most 12, and many more steps than twice that.

    Args:
        states: Z, ``[..., T, d]`` in order of time, 2 to 12 components; each leading index is a series of its own.

    Returns:
        Bits, a scalar; NaN for as few steps as 2d or a covariance without full rank.

    Raises:
        ValueError: for another number of components.

    Source:
        Barrett and Seth 2011; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> noise = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
        >>> integrated_information(noise).abs() < 0.01
        tensor(True)
    """
    if states.dim() < 2:
        raise ValueError(f"states must be [..., T, d], got {tuple(states.shape)}")
    require_components(states.shape[-1])
    return integrated_information_compute(*lagged_moments(states[..., :0], states))


def require_components(num_components: int) -> None:
    """A system must have a bipartition, and not too many to try each."""
    if not 2 <= num_components <= MAX_COMPONENTS:
        raise ValueError(
            f"the states of a system must have 2 to {MAX_COMPONENTS} components, got num_components = {num_components}"
        )


@checked
def integrated_information_compute(second: Tensor, first: Tensor, num_steps: Tensor) -> Tensor:
    """Whole minus sum at the bipartition that makes it least, from sums of states now and next, in bits."""
    matrix = full_rank_covariance(second, first, num_steps)
    size = len(matrix) // 2
    if len(matrix) % 2 or size < 2:
        raise ValueError(f"second must be [2d, 2d] with d of at least 2, got {tuple(second.shape)}")

    def memory(part: tuple[int, ...]) -> Tensor:
        later = tuple(index + size for index in part)
        present, following = gaussian_entropy(matrix, num_steps, part), gaussian_entropy(matrix, num_steps, later)
        return present + following - gaussian_entropy(matrix, num_steps, part + later)

    whole = memory(tuple(range(size)))
    excess = [whole - memory(part) - memory(rest) for part, rest in _bipartitions(size)]
    return torch.stack(excess).min() / math.log(2)


def _bipartitions(size: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every way to split the components in two, once: the first part holds component 0."""
    for others in range(size - 1):
        for chosen in combinations(range(1, size), others):
            part = (0, *chosen)
            yield part, tuple(index for index in range(size) if index not in part)
