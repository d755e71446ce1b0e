"""How tokens and attention follow relevance."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_one_shape
from intensive_callbacks.functional.ranks import score_by_rank
from intensive_callbacks.functional.signatures import checked

__all__ = [
    "Divergence",
    "allocation_regret",
    "per_image_coupling",
    "query_content_coupling",
    "query_content_coupling_compute",
    "query_content_coupling_update",
    "rank_coupling",
    "salience_divergence",
    "token_budgets",
]


@checked
def query_content_coupling_update(x: Tensor, y: Tensor) -> Tensor:
    """Sums from which the correlation of two samples is formed, and which add over batches and processes.

    Args:
        x: ``[..., P]``.
        y: ``[..., P]``; pairs of which one is not finite are left out.

    Returns:
        ``[..., 6]``: the number of pairs and the sums of x, y, x², y² and xy.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> query_content_coupling_update(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]))
        tensor([ 2.,  3.,  8.,  5., 34., 13.], dtype=torch.float64)
    """
    x, y, finite = finite_pairs(x, y, ("x", "y"))
    if x.dim() == 0:
        raise ValueError("x and y must be [..., P], got single numbers")
    return torch.stack([finite.to(x.dtype), x, y, x * x, y * y, x * y], dim=-1).sum(-2)


def finite_pairs(
    x: Tensor, y: Tensor, names: tuple[str, str] = ("relevance", "token_budgets")
) -> tuple[Tensor, Tensor, Tensor]:
    """Both samples with zeros where a pair is not finite, and where it is."""
    require_one_shape(names, x, y)
    finite = x.isfinite() & y.isfinite()
    x, y = as_float64(x), as_float64(y)
    return torch.where(finite, x, 0.0), torch.where(finite, y, 0.0), finite


@checked
def query_content_coupling_compute(moments: Tensor) -> Tensor:
    """Pearson correlation from :func:`query_content_coupling_update`.

    Args:
        moments: ``[..., 6]``.

    Returns:
        ``[...]``, in [-1, 1]; NaN with fewer than two pairs, and where a sample is constant or its standard deviation
        is less than about 1e-6 of its size, which sums of squares in float64 cannot tell from constant.

    Example:
        >>> query_content_coupling_compute(torch.tensor([2.0, 3.0, 8.0, 5.0, 34.0, 13.0]))
        tensor(1.0000, dtype=torch.float64)
    """
    if moments.shape[-1:] != (6,):
        raise ValueError(f"moments must be [..., 6], got {tuple(moments.shape)}")
    n, x, y, xx, yy, xy = as_float64(moments).unbind(-1)
    variance_x, variance_y = xx - x * x / n, yy - y * y / n
    resolution = 4096 * torch.finfo(n.dtype).eps
    varies = (variance_x > resolution * xx) & (variance_y > resolution * yy)
    r = (xy - x * y / n) / (variance_x.sqrt() * variance_y.sqrt())
    return torch.where(varies, r.clamp(-1.0, 1.0), torch.nan)


@checked
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
    return query_content_coupling_compute(central_moments(relevance.flatten(), token_budgets.flatten()))


def central_moments(x: Tensor, y: Tensor) -> Tensor:
    """:func:`query_content_coupling_update` around the means of each row: nothing cancels in the sums of squares."""
    x, y, finite = finite_pairs(x, y)
    count = finite.sum(-1, keepdim=True)
    x, y = (torch.where(finite, side - side.sum(-1, keepdim=True) / count, torch.nan) for side in (x, y))
    return query_content_coupling_update(x, y)


def fisher_z(relevance: Tensor, token_budgets: Tensor) -> tuple[Tensor, Tensor]:
    """Fisher's z of the correlations of images ``[B, P]``, summed with the weights n - 3 that its variance gives.

    Returns both sums; images with fewer than four pairs or with a constant input count nothing.
    """
    moments = central_moments(relevance, token_budgets)
    z = query_content_coupling_compute(moments).atanh()
    counts = (moments[..., 0] > 3) & ~z.isnan()
    weight = torch.where(counts, moments[..., 0] - 3.0, 0.0)
    return torch.where(counts, weight * z, 0.0).sum(-1), weight.sum(-1)


@checked
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
    if relevance.dim() == 0:
        raise ValueError("relevance and token_budgets must be [B, P], got single numbers")
    z, weight = fisher_z(relevance, token_budgets)
    return (z / weight).tanh()


@checked
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


@checked
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


Divergence = Literal["kl", "jensen_shannon"]
"""How two maps are compared."""


@checked
def salience_divergence(
    human: Tensor,
    model: Tensor,
    *,
    divergence: Divergence = "kl",
    smoothing: float = 0.0,
) -> Tensor:
    r"""Divergence of a model's salience from people's, for each map, in nats.

    .. math:: D = \sum_i p_i \ln \frac{p_i}{q_i}

    with p the human and q the model's map, each over its sum. Without smoothing it is infinite where a model gives
    nothing to a place that people looked at, and any smoothing decides how much that costs: state it. The
    Jensen-Shannon divergence needs none and is bounded by ln 2. Maps must have the same resolution: blurring one
    changes the value.

    Args:
        human: not negative, ``[..., P]``: fixation counts or a density over P places.
        model: not negative, ``[..., P]``.
        divergence: ``"kl"`` or ``"jensen_shannon"``.
        smoothing: s in (1 - s) q + s / P, the share of a uniform map mixed into the model's.

    Returns:
        Nats, ``[...]``, 0 for equal maps; NaN for a map with a negative value or without a positive one.

    Raises:
        ValueError: if the divergence is another, ``smoothing`` is outside [0, 1] or the shapes differ.

    Source:
        "Intensive Intelligence: Mathematical Foundations", perspectival knowing; Lin 1991 for Jensen-Shannon.

    Example:
        >>> salience_divergence(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
        tensor([0.3681, 0.0000], dtype=torch.float64)
    """
    if divergence not in get_args(Divergence):
        raise ValueError(f"divergence must be one of {', '.join(get_args(Divergence))}, got {divergence!r}")
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"smoothing must be a share in [0, 1], got {smoothing}")
    require_one_shape(("human", "model"), human, model)
    if human.shape[-1:] in {(), (0,)}:
        raise ValueError(f"human and model must be [..., P] with at least one place, got {tuple(human.shape)}")
    p, q = _share(human), _share(model)
    q = (1 - smoothing) * q + smoothing / model.shape[-1]
    if divergence == "kl":
        return _kullback_leibler(p, q)
    middle = (p + q) / 2
    return (_kullback_leibler(p, middle) + _kullback_leibler(q, middle)) / 2


def _share(salience: Tensor) -> Tensor:
    values = as_float64(salience)
    values = torch.where(values >= 0, values, math.nan)
    return values / values.sum(-1, keepdim=True)


def _kullback_leibler(p: Tensor, q: Tensor) -> Tensor:
    summed: Tensor = (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)
    return summed


@checked
def token_budgets(
    quality: Tensor,
    *,
    order: Literal["inverse", "direct"] = "direct",
    least: int = 64,
    greatest: int = 400,
    total: int | None = None,
) -> Tensor:
    r"""Tokens for each patch, by how relevant it is.

    .. math:: b = 64 + (400 - 64) (1 - q) \text{ (inverse)}, \quad b = 64 + (400 - 64) q \text{ (direct)}

    The source writes the inverse order, fewer tokens for more relevant patches, and elsewhere asks for budgets that
    rise with relevance: the inverse has a query-content coupling of exactly -1. Neither keeps a total; with ``total``
    all budgets are shifted alike, within their limits, until they add to it.

    Args:
        quality: q in [0, 1], ``[n]``.
        order: ``"inverse"`` or ``"direct"``.
        least: the smallest budget.
        greatest: the largest.
        total: the sum to be kept exactly.

    Returns:
        ``[n]``: float64, or int64 with the given sum.

    Raises:
        ValueError: if the order is another, the limits are no range, a quality lies outside [0, 1], or ``total`` cannot
            be had within the limits.

    Source:
        "Intensive Intelligence: Mathematical Foundations", token allocation.

    Example:
        >>> token_budgets(torch.tensor([0.0, 0.5, 1.0]), order="inverse")
        tensor([400., 232.,  64.], dtype=torch.float64)
        >>> token_budgets(torch.tensor([0.0, 0.5, 1.0]), total=576)
        tensor([ 64, 172, 340])
    """
    if order not in ("inverse", "direct"):
        raise ValueError(f"order must be inverse or direct, got {order!r}")
    if not 0 <= least <= greatest:
        raise ValueError(f"need 0 <= least <= greatest, got {least} and {greatest}")
    relevance = as_float64(quality)
    if quality.dim() != 1 or not bool(((relevance >= 0) & (relevance <= 1)).all()):
        raise ValueError(f"quality must be fractions in [0, 1], [n], got {quality}")
    budgets = least + (greatest - least) * (relevance if order == "direct" else 1 - relevance)
    return budgets if total is None else _with_total(budgets, least, greatest, total)


def _with_total(budgets: Tensor, least: int, greatest: int, total: int) -> Tensor:
    num = len(budgets)
    if not num * least <= total <= num * greatest:
        span = f"{num * least} to {num * greatest}"
        raise ValueError(f"{num} budgets in [{least}, {greatest}] add to {span}, not to total = {total}")
    low, high = float(least - greatest), float(greatest - least)
    for _ in range(100):  # bisection, to the last bit
        middle = (low + high) / 2
        if (budgets + middle).clamp(least, greatest).sum() < total:
            low = middle
        else:
            high = middle
    shifted = (budgets + high).clamp(least, greatest)
    whole = (shifted + 1e-9).floor()
    # The tokens left over go to the largest remainders.
    remainders = torch.where(whole < greatest, shifted - whole, -1.0)
    left = round(total - whole.sum().item())
    whole[remainders.argsort(descending=True, stable=True)[:left]] += 1
    return whole.to(torch.int64)
