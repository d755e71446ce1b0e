"""How well token budgets follow relevance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.functional.ranks import score_by_rank

__all__ = ["allocation_regret", "per_image_coupling", "query_content_coupling", "rank_coupling"]


def pair_moments(x: Tensor, y: Tensor) -> Tensor:
    """Sums from which the correlation of two samples is formed, and which add over batches and processes.

    Args:
        x: ``[..., P]``.
        y: ``[..., P]``; pairs of which one is not finite are left out.

    Returns:
        ``[..., 6]``: the number of pairs and the sums of x, y, x², y² and xy.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> pair_moments(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]))
        tensor([ 2.,  3.,  8.,  5., 34., 13.], dtype=torch.float64)
    """
    x, y, finite = finite_pairs(x, y)
    return torch.stack([finite.to(x.dtype), x, y, x * x, y * y, x * y], dim=-1).sum(-2)


def finite_pairs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both samples with zeros where a pair is not finite, and where it is."""
    if x.shape != y.shape:
        raise ValueError(
            f"relevance and token_budgets must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    finite = x.isfinite() & y.isfinite()
    x, y = as_float64(x), as_float64(y)
    return torch.where(finite, x, 0.0), torch.where(finite, y, 0.0), finite


def correlation_of_moments(moments: Tensor) -> Tensor:
    """Pearson correlation from :func:`pair_moments`.

    Args:
        moments: ``[..., 6]``.

    Returns:
        ``[...]``, in [-1, 1]; NaN with fewer than two pairs, and where a sample is constant or its standard deviation
        is less than about 1e-6 of its size, which sums of squares in float64 cannot tell from constant.

    Example:
        >>> correlation_of_moments(torch.tensor([2.0, 3.0, 8.0, 5.0, 34.0, 13.0]))
        tensor(1.)
    """
    n, x, y, xx, yy, xy = moments.unbind(-1)
    variance_x, variance_y = xx - x * x / n, yy - y * y / n
    resolution = 4096 * torch.finfo(moments.dtype).eps
    varies = (variance_x > resolution * xx) & (variance_y > resolution * yy)
    r = (xy - x * y / n) / (variance_x.sqrt() * variance_y.sqrt())
    return torch.where(varies, r.clamp(-1.0, 1.0), torch.nan)


def query_content_coupling(relevance: Tensor, token_budgets: Tensor) -> Tensor:
    """Query-content coupling (QC3): the Pearson correlation of relevance and token budgets over all patches.

    1 says that budgets are an increasing affine function of relevance, not that they are equal; -1 is what a rule gives
    that spends fewer tokens where relevance is high. Pooling images of different mean relevance can turn its sign:
    compare :func:`per_image_coupling`.

    Args:
        relevance: ``[P]`` or ``[B, P]``, or any shape.
        token_budgets: tokens given to each patch, of the same shape; pairs that are not finite are left out.

    Returns:
        A scalar in [-1, 1]; NaN with fewer than two pairs or a constant input.

    Raises:
        ValueError: if the shapes differ.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 6.

    Example:
        >>> relevance = torch.tensor([0.0, 0.25, 0.5, 1.0])
        >>> query_content_coupling(relevance, 64 + 336 * relevance)
        tensor(1., dtype=torch.float64)
    """
    return correlation_of_moments(central_moments(relevance.flatten(), token_budgets.flatten()))


def central_moments(x: Tensor, y: Tensor) -> Tensor:
    """:func:`pair_moments` around the means of each row, where nothing cancels in the sums of squares."""
    x, y, finite = finite_pairs(x, y)
    count = finite.sum(-1, keepdim=True)
    x, y = (torch.where(finite, side - side.sum(-1, keepdim=True) / count, torch.nan) for side in (x, y))
    return pair_moments(x, y)


def fisher_z(relevance: Tensor, token_budgets: Tensor) -> tuple[Tensor, Tensor]:
    """Fisher's z of the correlations of images ``[B, P]``, summed with the weights n - 3 that its variance gives.

    Returns both sums; images with fewer than four pairs or with a constant input count nothing.
    """
    moments = central_moments(relevance, token_budgets)
    z = correlation_of_moments(moments).atanh()
    counts = (moments[..., 0] > 3) & ~z.isnan()
    weight = torch.where(counts, moments[..., 0] - 3.0, 0.0)
    return torch.where(counts, weight * z, 0.0).sum(-1), weight.sum(-1)


def per_image_coupling(relevance: Tensor, token_budgets: Tensor) -> Tensor:
    """The mean of the images' correlations of relevance and token budgets, by Fisher's z.

    Each image counts with its number of patches less 3. An image whose correlation is exactly 1 has an infinite z and
    decides alone.

    Args:
        relevance: ``[B, P]``.
        token_budgets: ``[B, P]``; pairs that are not finite are left out.

    Returns:
        A scalar in [-1, 1]; NaN where no image has four pairs and two inputs that vary.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Fisher 1921, "On the probable error of a coefficient of correlation".

    Example:
        >>> relevance = torch.tensor([[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0]])
        >>> tokens = torch.tensor([[3.0, 0.0, 2.0, 1.0], [13.0, 10.0, 12.0, 11.0]])
        >>> per_image_coupling(relevance, tokens), query_content_coupling(relevance, tokens)
        (tensor(-0.4000, dtype=torch.float64), tensor(0.9333, dtype=torch.float64))
    """
    z, weight = fisher_z(relevance, token_budgets)
    return (z / weight).tanh()


def rank_coupling(relevance: Tensor, token_budgets: Tensor) -> Tensor:
    """Spearman's rank correlation of relevance and token budgets: QC3 of any increasing rule is 1.

    Args:
        relevance: ``[P]`` or any shape.
        token_budgets: of the same shape; pairs that are not finite are left out; ties share their mean rank.

    Returns:
        A scalar in [-1, 1]; NaN with fewer than two pairs or a constant input.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Spearman 1904, "The proof and measurement of association between two things".

    Example:
        >>> relevance = torch.tensor([0.1, 0.2, 0.3, 0.9])
        >>> rank_coupling(relevance, relevance.exp())
        tensor(1.0000, dtype=torch.float64)
    """
    x, y, finite = finite_pairs(relevance.flatten(), token_budgets.flatten())
    ranks = torch.arange(int(finite.sum()), dtype=x.dtype, device=x.device)
    return query_content_coupling(score_by_rank(x[finite], ranks), score_by_rank(y[finite], ranks))


def allocation_regret(relevance: Tensor, token_budgets: Tensor) -> Tensor:
    r"""Allocation regret: how far the shares of the budget are from the shares of the relevance.

    .. math:: KL(p \| q) = \sum_i p_i \log_2 (p_i / q_i), \quad p_i \propto relevance_i,\ q_i \propto tokens_i

    Unlike a correlation it is 0 only where the budget is proportional to relevance.

    Args:
        relevance: ``[..., P]``, not negative.
        token_budgets: ``[..., P]``, not negative; pairs that are not finite are left out.

    Returns:
        Bits, ``[...]``; infinite where something relevant gets nothing, NaN where a value is negative or a sum is 0.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Kullback and Leibler 1951, "On information and sufficiency".

    Example:
        >>> allocation_regret(torch.tensor([3.0, 1.0]), torch.tensor([200.0, 200.0]))
        tensor(0.1887, dtype=torch.float64)
    """
    x, y, _ = finite_pairs(relevance, token_budgets)
    p, q = x / x.sum(-1, keepdim=True), y / y.sum(-1, keepdim=True)
    bits = torch.where(p == 0, 0.0, p * (p / q).log()).sum(-1) / math.log(2.0)
    shares = (x >= 0).all(-1) & (y >= 0).all(-1) & (x.sum(-1) > 0) & (y.sum(-1) > 0)
    return torch.where(shares, bits, torch.nan)
