"""What is relevant: where people look, what a task can use, how tokens follow it, and what a bottleneck keeps of it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_positive
from intensive_callbacks.functional.information import Correction, discrete_mutual_information

__all__ = [
    "Divergence",
    "InformationPlane",
    "gaussian_information_bottleneck",
    "information_bottleneck",
    "salience_divergence",
    "task_information",
    "token_budgets",
]

Divergence = Literal["kl", "jensen_shannon"]
"""How two maps are compared."""


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
    if human.shape != model.shape:
        raise ValueError(f"both maps must have one shape, got {tuple(human.shape)} and {tuple(model.shape)}")
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


def task_information(logits: Tensor, target: Tensor, *, num_dimensions: float = 1) -> Tensor:
    r"""Usable information that predictions hold of a task, in bits per example (and per dimension).

    .. math:: I_V = H(Y) - \mathrm{CE}(Y \mid X)

    H(Y) is the entropy of the labels seen, the least loss without an input. A lower bound of the mutual information,
    on held-out examples: on training examples it counts what was learned by heart. It falls below 0 where the model is
    worse than the label frequencies. Taken per dimension of the representation that the predictions were read from, it
    is the source's "intelligence"; dimensions that nothing reads still count.

    Args:
        logits: ``[..., K]``.
        target: labels, integers ``[...]``; negative where there is none.
        num_dimensions: of the representation; 1 gives bits per example.

    Returns:
        Bits, a scalar of at most H(Y) / num_dimensions; NaN without examples.

    Raises:
        ValueError: if ``num_dimensions`` is not above 0 or the shapes do not fit.

    Source:
        Xu et al. 2020, arXiv:2002.10689; "Intensive Intelligence: Mathematical Foundations", summary.

    Example:
        >>> perfect = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
        >>> task_information(perfect, torch.tensor([0, 1]))
        tensor(1., dtype=torch.float64)
    """
    label_counts, cross_entropy = task_sums(logits, target)
    return task_information_from_sums(label_counts, cross_entropy, num_dimensions)


def task_sums(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Counts of the labels, ``[K]`` int64, and the sum of their cross-entropies, in nats."""
    if logits.shape[:-1] != target.shape:
        raise ValueError(f"logits must be [..., K] for targets [...], got {tuple(logits.shape)}, {tuple(target.shape)}")
    num_classes = logits.shape[-1]
    log_probabilities = as_float64(logits).log_softmax(-1).reshape(-1, num_classes)
    labels = target.flatten().to(torch.int64)
    given = labels >= 0
    chosen = log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    # Slot 0 takes the examples without a label, so that nothing has to be selected.
    counts = torch.zeros(num_classes + 1, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(0, torch.where(given, labels + 1, 0), torch.ones_like(labels))
    return counts[1:], -torch.where(given, chosen, 0).sum()


def task_information_from_sums(label_counts: Tensor, cross_entropy: Tensor, num_dimensions: float = 1) -> Tensor:
    """H(Y) less the mean cross-entropy, in bits per dimension."""
    num = label_counts.sum()
    entropy: Tensor = torch.special.entr(as_float64(label_counts) / num).sum()
    return (entropy - cross_entropy / num) / math.log(2) / require_positive("num_dimensions", num_dimensions)


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


class InformationPlane(NamedTuple):
    """Where a representation T of X lies between compression and relevance, in bits.

    Attributes:
        input_information: I(X;T).
        target_information: I(T;Y).
    """

    input_information: Tensor
    target_information: Tensor


def information_bottleneck(
    input_counts: Tensor,
    target_counts: Tensor,
    beta: float,
    *,
    correction: Correction = "adjusted",
) -> Tensor:
    r"""The information bottleneck's objective for a discrete representation, in bits; lower is better.

    .. math:: I(X;T) - \beta I(T;Y)

    For discrete T only (codes, experts, quantised units). For a deterministic network with continuous input and output
    I(X;T) is infinite, whatever an estimate from bins says; its "compression phase" is made by the bins. Where every
    input is seen once, I(X;T) is H(T) and no correction can tell: use ``correction="none"`` with as many observations
    as H(T) needs.

    Args:
        input_counts: the contingency table of X and T, ``[..., K, C]``.
        target_counts: that of T and Y, ``[..., C, L]``.
        beta: the price of relevance, not negative.
        correction: that of :func:`discrete_mutual_information`.

    Returns:
        Bits, ``[...]``; NaN as :func:`discrete_mutual_information`.

    Raises:
        ValueError: if ``beta`` is negative.

    Source:
        Tishby, Pereira and Bialek 1999, arXiv:physics/0004057; Saxe et al. 2018 on bins.

    Example:
        >>> keeps = torch.tensor([[5, 0], [0, 5]])
        >>> information_bottleneck(keeps, keeps, beta=2.0)  # 1 - 2 * 1
        tensor(-1., dtype=torch.float64)
    """
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    compression = discrete_mutual_information(input_counts, correction=correction)
    return compression - beta * discrete_mutual_information(target_counts, correction=correction)


def gaussian_information_bottleneck(covariance: Tensor, num_inputs: int, beta: float) -> InformationPlane:
    r"""The best that any representation can do for jointly Gaussian input and target: the information curve at beta.

    .. math:: I(X;T) = \frac12 \sum_i \log_2 \frac{(\beta - 1)(1 - \lambda_i)}{\lambda_i}, \quad
        I(T;Y) = I(X;T) - \frac12 \sum_i \log_2 \beta (1 - \lambda_i)

    over the eigenvalues of cov(X given Y) cov(X)^-1 with beta (1 - lambda) > 1. Something to hold a measured plane
    against; of data that are not Gaussian it is no bound.

    Args:
        covariance: of (X, Y) jointly, ``[n, n]``, positive definite.
        num_inputs: how many of the first dimensions are X.
        beta: the price of relevance, not negative.

    Returns:
        Both informations, in bits; 0 for both where beta is too small for any dimension to pay.

    Raises:
        ValueError: if ``beta`` is negative or the covariance does not fit.

    Source:
        Chechik, Globerson, Tishby and Weiss 2005, "Information bottleneck for Gaussian variables".

    Example:
        >>> gaussian_information_bottleneck(torch.tensor([[1.0, 0.8], [0.8, 1.0]]), num_inputs=1, beta=4.6875)
        InformationPlane(input_information=tensor(1.3564, dtype=torch.float64),
                         target_information=tensor(0.5639, dtype=torch.float64))
    """
    size = covariance.shape[-1]
    if covariance.shape != (size, size) or not 0 < num_inputs < size:
        raise ValueError(
            f"need an [n, n] covariance and 0 < num_inputs < n, got {tuple(covariance.shape)} and {num_inputs}"
        )
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    joint = as_float64(covariance)
    x, y = joint[:num_inputs, :num_inputs], joint[num_inputs:, num_inputs:]
    cross = joint[:num_inputs, num_inputs:]
    explained = torch.linalg.solve(x, cross @ torch.linalg.solve(y, cross.T))
    known = torch.linalg.eigvals(explained).real.clamp(0, 1)  # 1 - lambda, the squared canonical correlations
    pays = known[beta * known > 1]
    kept = ((beta - 1) * pays / (1 - pays)).log2().sum() / 2
    return InformationPlane(kept, kept - (beta * pays).log2().sum() / 2)
