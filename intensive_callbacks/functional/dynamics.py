"""How information moves in time, from one series to another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_layout, require_one_shape
from intensive_callbacks.functional.information import (
    count_labels,
    discrete_mutual_information,
    expected_mutual_information,
    shannon_entropy_compute,
)
from intensive_callbacks.functional.representation import covariance
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "gaussian_transfer_entropy",
    "gaussian_transfer_entropy_compute",
    "lagged_moments",
    "transfer_counts",
    "transfer_entropy",
    "transfer_entropy_compute",
]


@checked
def transfer_counts(source: Tensor, target: Tensor, num_source: int, num_target: int) -> tuple[Tensor, Tensor]:
    """How often each step occurs: the target's present, the source's present and the target's next state.

    Args:
        source: states, integers in [-1, ``num_source``), ``[..., T]`` in order of time; -1 for none.
        target: states, integers in [-1, ``num_target``), of the same shape.
        num_source: states of the source.
        num_target: states of the target.

    Returns:
        The counts, ``[num_target, num_source, num_target]`` int64, and how many states lay outside their range, as
        :func:`contingency_table`.

    Raises:
        ValueError: as :func:`contingency_table`.

    Example:
        >>> transfer_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2, 2)[0].sum()
        tensor(2)
    """
    require_one_shape(("source", "target"), source, target)
    if source.dim() == 0 or min(num_source, num_target) < 1:
        raise ValueError(
            "source and target must be [..., T], of num_source and num_target states, at least 1 each, "
            f"got {tuple(source.shape)}, {num_source} and {num_target}"
        )
    steps = {"target": target[..., :-1], "source": source[..., :-1], "target, next": target[..., 1:]}
    return count_labels(steps, (num_target, num_source, num_target))


@checked
def transfer_entropy(
    source: Tensor, target: Tensor, num_source: int, num_target: int, *, correction: str = "adjusted"
) -> Tensor:
    r"""Transfer entropy from a source to a target, with a history of one step, in bits per step.

    .. math:: TE = I(Y_{t+1}; X_t \mid Y_t)

    Corrected by what it reads on average when the source is permuted among the times of equal Y_t (the mean of all
    surrogates, without drawing one), scaled so that a target that copies its source keeps its full value. Permuting the
    source over all times instead would also undo its relation to Y_t, and misjudge the chance.

    It needs some observations for each of the L·K·L cells, a stationary pair, and states in which one step is the whole
    memory: a longer memory of the target reads as transfer. A common cause does so too: it is prediction, not
    causation.

    Args:
        source: states, integers in [-1, K), ``[..., T]`` in order of time, each row a series of its own; -1 for none.
        target: states, integers in [-1, L), of the same shape.
        num_source: K.
        num_target: L.
        correction: ``"adjusted"``, as above, or ``"none"``.

    Returns:
        Bits, a scalar; at most H(Y_{t+1} given Y_t), below 0 by chance; NaN where no step was counted, a state
        lies outside its range, or chance alone fixes the estimate.

    Raises:
        ValueError: if the correction is another, or as :func:`transfer_counts`.

    Source:
        Schreiber 2000; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> coin = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1])
        >>> transfer_entropy(coin, coin.roll(1), num_source=2, num_target=2)  # copied
        tensor(0.9544, dtype=torch.float64)
    """
    counts, num_outside = transfer_counts(source, target, num_source, num_target)
    return unless_invalid(transfer_entropy_compute(counts, correction=correction), num_outside)


@checked
def transfer_entropy_compute(counts: Tensor, *, correction: str = "adjusted") -> Tensor:
    """Bits per step of counts ``[L, K, L]``: target now, source now, target next; see :func:`transfer_entropy`.

    Example:
        >>> copied = torch.zeros(2, 2, 2)
        >>> copied[:, 0, 0] = copied[:, 1, 1] = 100
        >>> transfer_entropy_compute(copied)
        tensor(1., dtype=torch.float64)
    """
    if correction not in ("adjusted", "none"):
        raise ValueError(f"correction must be adjusted or none, got {correction!r}")
    require_layout("counts", counts, "[L, K, L]", 3)
    weights = as_float64(counts).sum((-2, -1))
    weights = weights / weights.sum()
    plain = _weighted(weights, discrete_mutual_information(counts, correction="none"))
    if correction == "none":
        return plain
    expected = _weighted(weights, expected_mutual_information(counts))
    entropies = [_weighted(weights, shannon_entropy_compute(counts.sum(axis), correction="none")) for axis in (-1, -2)]
    greatest = torch.minimum(*entropies)
    room = greatest - expected
    adjusted = (plain - expected) * greatest / torch.where(room > 1e-9, room, math.nan)
    return torch.where(greatest == 0, plain, adjusted)


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """The mean over strata; one that never occurred has no value and no weight."""
    return torch.where(weights == 0, 0, weights * values).sum(-1)


@checked
def lagged_moments(
    first: Tensor, second: Tensor, *, names: tuple[str, str] = ("first", "second")
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over time of each series now and the second one a step later: what Gaussian estimates are formed from.

    Args:
        first: ``[..., T, p]`` in order of time.
        second: ``[..., T, q]``.
        names: what an error calls the two.

    Returns:
        The sum of z z', ``[d, d]``, the sum of z, ``[d]``, and the number of steps, int64, where z holds the first
        series now, the second now and the second next: d = p + 2q.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> lagged_moments(torch.ones(4, 2), torch.ones(4, 1))[2]
        tensor(3)
    """
    if first.shape[:-1] != second.shape[:-1] or first.dim() < 2 or second.shape[-1] == 0:
        raise ValueError(
            f"{names[0]} must be [..., T, p] and {names[1]} [..., T, q], "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    one, other = as_float64(first.detach()), as_float64(second.detach())
    steps = torch.cat([one[..., :-1, :], other[..., :-1, :], other[..., 1:, :]], dim=-1).flatten(0, -2)
    return steps.T @ steps, steps.sum(0), torch.full((), len(steps), device=steps.device)


@checked
def gaussian_transfer_entropy(source: Tensor, target: Tensor) -> Tensor:
    r"""Transfer entropy between continuous series as if Gaussian, with a history of one step, in bits per step.

    .. math:: TE = \frac12 \log_2 \frac{|\mathrm{cov}(Y_{t+1} \mid Y_t)|}{|\mathrm{cov}(Y_{t+1} \mid Y_t, X_t)|}

    Half of Granger's causality. Unbiased for Gaussian series: what n steps of independent noise read, about p·q / (2n)
    nats, is taken off. It sees linear dependence only, and needs many more steps than the 2q + p dimensions: reduce
    wide activations first, by a projection that does not depend on the data. A longer memory of the target, or a common
    cause, reads as transfer: it is prediction, not causation.

    Args:
        source: X, ``[..., T, p]`` in order of time; each leading index is a series of its own.
        target: Y, ``[..., T, q]``.

    Returns:
        Bits, a scalar; below 0 by chance; NaN for as few steps as dimensions or a covariance without full rank.

    Raises:
        ValueError: if the shapes do not fit.

    Source:
        Barnett, Barrett and Seth 2009; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> noise = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        >>> copied = noise.roll(1, 0) + 0.01 * noise.flip(0)
        >>> gaussian_transfer_entropy(noise, copied) > 6, gaussian_transfer_entropy(copied, noise) < 0.01
        (tensor(True), tensor(True))
    """
    return gaussian_transfer_entropy_compute(
        *lagged_moments(source, target, names=("source", "target")), source.shape[-1]
    )


@checked
def gaussian_transfer_entropy_compute(second: Tensor, first: Tensor, num_steps: Tensor, num_source: int) -> Tensor:
    """Gaussian transfer entropy from the sums of :func:`lagged_moments`, in bits."""
    matrix = full_rank_covariance(second, first, num_steps)
    size = len(matrix)
    num_target = (size - num_source) // 2
    source, now = range(num_source), range(num_source, num_source + num_target)
    later = range(num_source + num_target, size)
    entropies = (
        gaussian_entropy(matrix, num_steps, (*now, *later))
        + gaussian_entropy(matrix, num_steps, (*source, *now))
        - gaussian_entropy(matrix, num_steps, now)
        - gaussian_entropy(matrix, num_steps, range(size))
    )
    return entropies / math.log(2)


def full_rank_covariance(second: Tensor, first: Tensor, num_steps: Tensor) -> Tensor:
    """The covariance; NaN where a dimension is, up to rounding, constant or a combination of others."""
    if first.dim() != 1 or second.shape != (*first.shape, *first.shape) or num_steps.dim() != 0:
        raise ValueError(
            "second, first and num_steps must be [d, d], [d] and [], "
            f"got {tuple(second.shape)}, {tuple(first.shape)} and {tuple(num_steps.shape)}"
        )
    matrix = covariance(second, first, num_steps)
    deviation = matrix.diagonal().sqrt()
    correlation = (matrix / deviation.unsqueeze(-1) / deviation).nan_to_num()
    return torch.where(torch.linalg.eigvalsh(correlation)[0] > 1e-10, matrix, math.nan)


def gaussian_entropy(matrix: Tensor, num_samples: Tensor, indices: Sequence[int]) -> Tensor:
    """Gaussian entropy of some of the dimensions, without bias and less its constants, in nats."""
    chosen = torch.tensor(tuple(indices), device=matrix.device)
    # ln|S| of n samples is too small by the mean logarithm of chi-square variables.
    freedom = as_float64(num_samples) - torch.arange(1, len(chosen) + 1, device=matrix.device)
    mean_log = torch.digamma(torch.where(freedom > 0, freedom, math.nan) / 2) - ((num_samples - 1) / 2).log()
    return (matrix[chosen][:, chosen].logdet() - mean_log.sum()) / 2
