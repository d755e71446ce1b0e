"""Accuracy in view of the share of the parameters that is active."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import (
    as_float64,
    as_fraction,
    correct_for_chance,
    require_baseline,
    require_broadcast,
    require_confidence,
    require_one_shape,
    require_positive,
)
from intensive_callbacks.functional.signatures import checked

__all__ = [
    "relevance_realization_rate",
    "retention_interval",
    "sparse_retention",
    "sparse_retention_compute",
    "sparse_retention_update",
    "sparsity_adjusted_accuracy",
]


@checked
def relevance_realization_rate(
    accuracy: float | Tensor,
    total_params: float,
    active_params: float | Tensor,
    random_baseline: float,
    *,
    chance_corrected: bool = False,
) -> Tensor:
    """Relevance realization rate (R3): the active share of a model times its gain over chance.

    .. math:: R3 = (N_{active} / N_{total}) (a / r)

    Every dense model stands above every sparse one of equal accuracy: it measures use, not merit.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        total_params: every parameter once.
        active_params: parameters that one token touches, at most ``total_params``.
        random_baseline: r, the accuracy of chance, in (0, 1).
        chance_corrected: use (a - r) / (1 - r) for the gain, which keeps the rate in [0, 1] above chance.

    Returns:
        A plain number, of the shape of ``accuracy``; in [0, 1/r].

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``total_params`` is not above 0, ``active_params`` is a
            number outside [0, ``total_params``], or ``random_baseline`` is outside (0, 1).

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 4.

    Example:
        >>> relevance_realization_rate(0.85, total_params=671e9, active_params=37e9, random_baseline=0.25)
        tensor(0.1875, dtype=torch.float64)
    """
    share = active_share(total_params, active_params)
    baseline = require_baseline(random_baseline)
    fraction = as_fraction("accuracy", accuracy)
    require_broadcast(accuracy=fraction, active_params=share)
    return share * (correct_for_chance(fraction, baseline) if chance_corrected else fraction / baseline)


@checked
def sparsity_adjusted_accuracy(accuracy: float | Tensor, total_params: float, active_params: float | Tensor) -> Tensor:
    """Sparsity-adjusted accuracy (SAA): the accuracy times the share of the parameters that stays idle.

    .. math:: SAA = a (1 - N_{active} / N_{total})

    A dense model has 0 whatever it can do, so it compares sparse models only.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        total_params: every parameter once.
        active_params: parameters that one token touches, at most ``total_params``.

    Returns:
        A fraction, of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``total_params`` is not above 0, or ``active_params`` is
            a number outside [0, ``total_params``].

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 8.

    Example:
        >>> sparsity_adjusted_accuracy(0.85, total_params=100e9, active_params=5e9)
        tensor(0.8075, dtype=torch.float64)
    """
    fraction, share = as_fraction("accuracy", accuracy), active_share(total_params, active_params)
    require_broadcast(accuracy=fraction, active_params=share)
    return fraction * (1.0 - share)


def active_share(total_params: float, active_params: float | Tensor) -> Tensor:
    """Active / total, as float64; a number outside [0, total] raises, an element of a tensor outside becomes NaN."""
    if not isinstance(active_params, Tensor):
        require_share(total_params, active_params)
    return as_fraction("active_params", as_float64(active_params) / require_positive("total_params", total_params))


def require_share(total_params: float, active_params: float) -> None:
    """Active parameters must be some of a number of parameters above 0."""
    require_positive("total_params", total_params)
    if not 0 <= active_params <= total_params:
        raise ValueError(f"active_params must lie in [0, total_params = {total_params}], got {active_params}")


@checked
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
    return sparse_retention_compute(sparse_retention_update(sparse_correct, dense_correct))


@checked
def sparse_retention_update(sparse_correct: Tensor, dense_correct: Tensor) -> Tensor:
    """Examples by who was right, ``[2, 2]`` int64, the sparse model's row by the dense one's column."""
    require_one_shape(("sparse_correct", "dense_correct"), sparse_correct, dense_correct, "be of the same examples")
    sparse, dense = sparse_correct.to(torch.bool), dense_correct.to(torch.bool)
    cells = [((sparse == row) & (dense == column)).sum() for row in (False, True) for column in (False, True)]
    return torch.stack(cells).reshape(2, 2)


@checked
def sparse_retention_compute(counts: Tensor) -> Tensor:
    """Accuracy of the row over accuracy of the column, of a table of :func:`sparse_retention_update`."""
    if counts.shape != (2, 2):
        raise ValueError(f"counts must be [2, 2], the sparse model's row by the dense one's, got {tuple(counts.shape)}")
    table = as_float64(counts)
    dense = table[:, 1].sum()
    return table[1].sum() / torch.where(dense > 0, dense, math.nan)


@checked
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
    require_confidence(confidence)
    ratio = sparse_retention_compute(counts)
    table = as_float64(counts)
    both, alone = table[1, 1], table[1, 0] + table[0, 1]
    product = (both + table[1, 0]) * (both + table[0, 1])
    error = (alone / torch.where(product > 0, product, math.nan)).sqrt()
    z = torch.special.ndtri(as_float64((1 + confidence) / 2)).to(error.device)
    return ratio * (-z * error).exp(), ratio * (z * error).exp()
