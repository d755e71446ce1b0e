"""How much of one discrete variable the other tells: entropy, mutual information and the coupling between them."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import (
    as_float64,
    require_cells,
    require_layout,
    require_mask,
    require_positive,
)
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sparsity import relevance_realization_rate
from intensive_callbacks.functional.sums import unless_invalid

__all__ = [
    "Correction",
    "configuration_quality",
    "contingency_table",
    "coupling_quality",
    "coupling_quality_compute",
    "discrete_mutual_information",
    "expected_mutual_information",
    "independent_tables",
    "mutual_information",
    "permutation_p_value",
    "relevance_density",
    "relevance_density_compute",
    "shannon_entropy",
    "shannon_entropy_compute",
]

Correction = Literal["adjusted", "miller_madow", "none"]
"""How an estimate from counts is corrected for its bias."""


def require_correction(correction: str) -> None:
    """A correction must be one of :data:`Correction`."""
    if correction not in get_args(Correction):
        raise ValueError(f"correction must be one of {', '.join(get_args(Correction))}, got {correction!r}")


@checked
def contingency_table(
    labels: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """How often each combination of labels occurs together.

    Args:
        labels: integers of one shape, one tensor for each variable, each in [-1, its size); where any is -1 the
            observation is left out.
        sizes: the number of values of each variable.
        mask: booleans of the leading shape of the labels, false where there is no observation.

    Returns:
        The counts, ``[*sizes]`` int64, and the number of labels outside [-1, size), int64: the counts leave such
        observations out, and can be trusted where it is 0. Formed without waiting for the device.

    Raises:
        ValueError: if a size is below 1, the labels are not integers, or the shapes do not fit.

    Example:
        >>> contingency_table((torch.tensor([0, 1, 1, -1]), torch.tensor([0, 2, 2, 0])), (2, 3))
        (tensor([[1, 0, 0],
                 [0, 0, 2]]), tensor(0))
    """
    return count_labels({f"labels[{i}]": each for i, each in enumerate(labels)}, sizes, mask)


def count_labels(named: dict[str, Tensor], sizes: tuple[int, ...], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """:func:`contingency_table` of labels by the names that an error should call them."""
    labels, names = tuple(named.values()), ", ".join(named)
    if min(sizes) < 1:
        of = " and ".join(f"num_{name}" for name in named)
        raise ValueError(f"a variable has at least 1 value; {names} ({of}) have sizes {sizes}")
    require_cells(f"sizes of {names} ({' and '.join(f'num_{name}' for name in named)})", *sizes)
    first = labels[0]
    if any(label.is_floating_point() or label.dtype == torch.bool for label in labels):
        kinds = ", ".join(str(label.dtype) for label in labels)
        raise ValueError(f"labels ({names}) must be integers, got {kinds}; bin or cluster a continuous variable first")
    if any(label.shape != first.shape for label in labels):
        raise ValueError(f"labels ({names}) must have one shape, got {[tuple(label.shape) for label in labels]}")
    kept = torch.ones_like(first, dtype=torch.bool)
    if mask is not None:
        require_mask(mask, f"labels ({names})", first)
        kept = mask.reshape(mask.shape + (1,) * (first.dim() - mask.dim())).to(torch.bool).expand_as(first)
    cell = torch.zeros_like(first, dtype=torch.int64)
    inside = kept
    num_outside = torch.zeros((), dtype=torch.int64, device=first.device)
    for label, size in zip(labels, sizes, strict=True):
        num_outside = num_outside + (kept & ((label < -1) | (label >= size))).sum()
        inside = inside & (label >= 0) & (label < size)
        cell = cell * size + label
    # Cell 0 takes what is left out, so that nothing has to be selected.
    counts = torch.zeros(math.prod(sizes) + 1, dtype=torch.int64, device=first.device)
    cell = torch.where(inside, cell + 1, 0).flatten()
    counts.scatter_add_(0, cell, torch.ones_like(cell))
    return counts[1:].reshape(sizes), num_outside


@checked
def shannon_entropy(
    labels: Tensor, num_values: int, mask: Tensor | None = None, *, correction: Correction = "miller_madow"
) -> Tensor:
    r"""Shannon entropy of labels, in bits.

    .. math:: H = -\sum_i p_i \log_2 p_i + \frac{K_+ - 1}{2 n \ln 2}, \quad p_i = c_i / n

    The second term is Miller and Madow's, with K+ the number of values seen: the plain estimate is too small by about
    as much. It is good from a few observations per value on; with fewer than one per value the correction is itself too
    small, and nothing can be said of a tail that was never seen. A corrected estimate may exceed log2 K by its error.

    Args:
        labels: integers in [-1, K) of any shape; -1 for none.
        num_values: K.
        mask: booleans of the leading shape of the labels, false where there is no observation.
        correction: ``"miller_madow"`` or ``"none"``, the plain estimate.

    Returns:
        Bits; NaN where nothing was counted or a label lies outside [-1, K).

    Raises:
        ValueError: if the correction is another, or as :func:`contingency_table`.

    Source:
        Shannon 1948; Miller 1955; "Intensive Intelligence: Mathematical Foundations", which calls it intensive: the
        entropy of n independent symbols is n times that of one, and it is the rate per symbol that is intensive.

    Example:
        >>> shannon_entropy(torch.tensor([0, 0, 1, 2]), num_values=3, correction="none")
        tensor(1.5000, dtype=torch.float64)
    """
    counts, num_outside = count_labels({"labels": labels}, (num_values,), mask)
    return unless_invalid(shannon_entropy_compute(counts, correction=correction), num_outside)


@checked
def shannon_entropy_compute(counts: Tensor, *, correction: Correction = "miller_madow") -> Tensor:
    """Bits of histograms ``[..., K]``; see :func:`shannon_entropy`.

    Example:
        >>> shannon_entropy_compute(torch.tensor([2, 1, 1]), correction="none")
        tensor(1.5000, dtype=torch.float64)
    """
    if correction not in ("miller_madow", "none"):
        raise ValueError(f"correction must be miller_madow or none, got {correction!r}")
    require_layout("counts", counts, "[..., K]")
    weights = as_float64(counts)
    num = weights.sum(-1)
    entropy: Tensor = torch.special.entr(weights / num.unsqueeze(-1)).sum(-1)
    if correction == "miller_madow":
        entropy = entropy + ((weights > 0).sum(-1) - 1) / (2 * num)
    return entropy / math.log(2)


@checked
def expected_mutual_information(counts: Tensor) -> Tensor:
    r"""What the plain estimate of the mutual information reads on average where there is none, in bits.

    The mean over all tables with the same margins, each cell being hypergeometric. It is the mean of the permutation
    null, without a permutation. Cells that expect more than 16 use the first three moments, which are then right to
    0.1 %; the others are summed exactly.

    Args:
        counts: a contingency table, ``[..., K, L]``.

    Returns:
        Bits, ``[...]``; NaN where nothing was counted.

    Source:
        Vinh, Epps and Bailey 2010, "Information theoretic measures for clusterings comparison".

    Example:
        >>> expected_mutual_information(torch.tensor([[1, 0], [0, 1]]))  # one of two permutations reads 1 bit, both do
        tensor(1., dtype=torch.float64)
    """
    require_layout("counts", counts, "[..., K, L]", 2)
    table = as_float64(counts)
    num = table.sum((-2, -1))[..., None, None]
    rows, columns = table.sum(-1, keepdim=True), table.sum(-2, keepdim=True)
    mean = rows * columns / num
    variance = mean * (1 - rows / num) * (1 - columns / num) * num / (num - 1)
    # E[n ln(n / mean)] of each cell: the sum for the small, the expansion for the large.
    margins = sum(_log_factorial(margin) for margin in (rows, columns, num - rows, num - columns))
    exact = torch.zeros_like(mean)
    for count in range(1, 64):
        others = (rows - count, columns - count, num - rows - columns + count)
        log_chance = margins - _log_factorial(num) - math.lgamma(count + 1) - sum(map(_log_factorial, others))
        exact = exact + torch.exp(log_chance) * count * (math.log(count) - mean.log())
    skew = variance * (num - 2 * rows) * (num - 2 * columns) / (num * (num - 2))
    expansion = variance / (2 * mean) - skew / (6 * mean**2) + variance**2 / (4 * mean**3)
    cells = torch.where(mean > 16, expansion, exact)
    return torch.where(mean > 0, cells, mean).sum((-2, -1)) / num[..., 0, 0] / math.log(2)


def _log_factorial(count: Tensor) -> Tensor:
    """ln(count!), infinite for a negative integer."""
    return torch.lgamma(count + 1)


@checked
def mutual_information(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None = None,
    *,
    num_x: int,
    num_y: int,
    correction: Correction = "adjusted",
) -> Tensor:
    r"""Mutual information of two discrete variables, in bits.

    .. math:: I = \sum_{ij} p_{ij} \log_2 \frac{p_{ij}}{p_i p_j}

    The plain estimate is too large by about (K - 1)(L - 1) / (2 n ln 2) bits where every cell expects a few
    observations; with fewer it may read almost the whole entropy of independent variables. The corrections:

    - ``"adjusted"``: :math:`H (I - E) / (H - E)` with E of :func:`expected_mutual_information` and H the smaller of the
      two entropies. 0 on average where the variables are independent, at any sample size, and H where one tells the
      other exactly; in between it is shrunk where observations are few.
    - ``"miller_madow"``: each entropy's own. The better one for weak dependence where nearly every cell has been seen;
      it breaks down with fewer observations than cells (1000 independent ones over 100 x 100 cells read 2.7 bits).
    - ``"none"``: the plain estimate.

    Binning a continuous variable gives a number that depends on the bins: that is no estimate of its information.

    Args:
        x: integers in [-1, K) of any shape; -1 for none.
        y: integers in [-1, L), of the same shape.
        mask: booleans of the leading shape of the labels, false where there is no observation.
        num_x: K.
        num_y: L.
        correction: as above.

    Returns:
        Bits; at most the smaller entropy, and below 0 by chance. NaN where nothing was counted, a label lies outside
        its range or, if adjusted, where the margins alone fix the estimate (every value seen once).

    Raises:
        ValueError: if the correction is another, or as :func:`contingency_table`.

    Source:
        Cover and Thomas 2006; Vinh, Epps and Bailey 2010; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> x = torch.arange(400) % 4
        >>> mutual_information(x, x // 2, num_x=4, num_y=2)
        tensor(1., dtype=torch.float64)
    """
    counts, num_outside = count_labels({"x": x, "y": y}, (num_x, num_y), mask)
    return unless_invalid(discrete_mutual_information(counts, correction=correction), num_outside)


@checked
def discrete_mutual_information(counts: Tensor, *, correction: Correction = "adjusted") -> Tensor:
    """Bits of contingency tables ``[..., K, L]``; see :func:`mutual_information`.

    Example:
        >>> discrete_mutual_information(torch.tensor([[5, 0], [0, 5]]))
        tensor(1., dtype=torch.float64)
    """
    information, expected, greatest = _corrected(counts, correction)
    adjusted = (information - expected) * greatest / _room(greatest - expected)
    return torch.where(greatest == 0, information, adjusted) if correction == "adjusted" else information


@checked
def coupling_quality(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None = None,
    *,
    num_x: int,
    num_y: int,
    correction: Correction = "adjusted",
) -> Tensor:
    r"""Coupling quality: the share of the less uncertain variable that the other tells.

    .. math:: C = I(X;Y) / \min(H(X), H(Y))

    A normalized mutual information, of discrete variables only: of continuous ones the entropies may be negative. The
    plain estimate is far too large on few observations: 1000 independent ones over 100 x 100 cells read 0.50.

    Args:
        x: integers in [-1, K) of any shape; -1 for none.
        y: integers in [-1, L), of the same shape.
        mask: booleans of the leading shape of the labels, false where there is no observation.
        num_x: K.
        num_y: L.
        correction: that of :func:`mutual_information`; ``"adjusted"`` gives the adjusted mutual information
            with the minimum as its normalizer.

    Returns:
        At most 1 and 0 on average where independent (below 0 by chance); NaN where nothing was counted, a variable is
        constant or a label lies outside its range.

    Raises:
        ValueError: if the correction is another, or as :func:`contingency_table`.

    Source:
        "Intensive Intelligence: Mathematical Foundations", coupling quality; Vinh, Epps and Bailey 2010.

    Example:
        >>> x = torch.arange(400) % 4
        >>> coupling_quality(x, x // 2, num_x=4, num_y=2)
        tensor(1., dtype=torch.float64)
    """
    counts, num_outside = count_labels({"x": x, "y": y}, (num_x, num_y), mask)
    return unless_invalid(coupling_quality_compute(counts, correction=correction), num_outside)


@checked
def coupling_quality_compute(counts: Tensor, *, correction: Correction = "adjusted") -> Tensor:
    """The coupling of contingency tables ``[..., K, L]``; see :func:`coupling_quality`.

    Example:
        >>> coupling_quality_compute(torch.tensor([[4, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 4]]).T)  # y = f(x)
        tensor(1., dtype=torch.float64)
    """
    information, expected, greatest = _corrected(counts, correction)
    return (information - expected) / torch.where(greatest > 0, _room(greatest - expected), math.nan)


def _corrected(counts: Tensor, correction: Correction) -> tuple[Tensor, Tensor, Tensor]:
    """The estimate, what it reads by chance, and the greatest value it could have."""
    require_correction(correction)
    require_layout("counts", counts, "[..., K, L]", 2)
    entropy_correction: Correction = "none" if correction == "adjusted" else correction
    entropies = [
        shannon_entropy_compute(table, correction=entropy_correction) for table in (counts.sum(-1), counts.sum(-2))
    ]
    joint = shannon_entropy_compute(counts.flatten(-2), correction=entropy_correction)
    information = entropies[0] + entropies[1] - joint
    expected = expected_mutual_information(counts) if correction == "adjusted" else torch.zeros_like(joint)
    return information, expected, torch.minimum(*entropies)


def _room(room: Tensor) -> Tensor:
    """NaN where chance alone reaches the greatest value, up to rounding."""
    return torch.where(room > 1e-9, room, math.nan)


@checked
def independent_tables(counts: Tensor, num_tables: int, seed: int = 0) -> Tensor:
    """Contingency tables as permuting one of the variables would give them.

    The permutation null of any statistic of the table: its values on these tables. Drawn from the margins alone, so
    that no observation has to be kept. Needs scipy.

    Args:
        counts: a contingency table, ``[K, L]``.
        num_tables: how many to draw.
        seed: of the draw.

    Returns:
        ``[num_tables, K, L]`` int64, on the CPU, each with the margins of ``counts``.

    Raises:
        ValueError: if the counts are no table of integers of at least 0, ``num_tables`` is negative, or ``seed`` is
            not in [0, 2^32).

    Source:
        Patefield 1981, in ``scipy.stats.random_table``.

    Example:
        >>> independent_tables(torch.tensor([[3, 0], [0, 3]]), num_tables=100).sum((0, 1)) / 100
        tensor([3., 3.])
    """
    from scipy.stats import random_table

    table = _require_table(counts)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in [0, 2**32), got {seed}")
    if num_tables < 0:
        raise ValueError(f"num_tables must be at least 0, got {num_tables}")
    require_cells("num_tables and the sizes of counts", max(num_tables, 1), *table.shape)
    drawn = random_table(table.sum(-1).numpy(), table.sum(-2).numpy()).rvs(num_tables, random_state=seed)
    return torch.as_tensor(drawn).to(torch.int64)


def _require_table(counts: Tensor) -> Tensor:
    """One contingency table on the CPU, int64."""
    table = counts.cpu().to(torch.int64)
    if table.dim() != 2 or 0 in table.shape or not bool(((table >= 0) & (table == counts.cpu())).all()):
        raise ValueError(f"counts must be [K, L], integers of at least 0, got {tuple(table.shape)} {counts.dtype}")
    return table


@checked
def permutation_p_value(counts: Tensor, num_permutations: int = 999, seed: int = 0) -> float:
    """How often permuted data would read as much mutual information as this table does.

    Valid for independent observations: neighboring tokens of one text are not, and then it is too small.

    Args:
        counts: a contingency table, ``[K, L]``.
        num_permutations: tables drawn from the null; the value is a multiple of 1 / (this + 1).
        seed: of the draw.

    Returns:
        In (0, 1]; NaN where nothing was counted.

    Raises:
        ValueError: if the counts are no table of integers of at least 0, or ``num_permutations`` is below 1.

    Example:
        >>> permutation_p_value(torch.tensor([[19, 1], [1, 19]]))
        0.001
    """
    if num_permutations < 1:
        raise ValueError(f"num_permutations must be at least 1, got {num_permutations}")
    observed = discrete_mutual_information(_require_table(counts), correction="none")
    if observed.isnan():
        return math.nan
    null = discrete_mutual_information(independent_tables(counts, num_permutations, seed), correction="none")
    return (1 + int((null >= observed - 1e-12).sum())) / (1 + num_permutations)


@checked
def configuration_quality(
    x: Tensor,
    y: Tensor,
    accuracy: float | Tensor,
    mask: Tensor | None = None,
    *,
    num_x: int,
    num_y: int,
    total_params: float,
    active_params: float | Tensor,
    random_baseline: float,
    correction: Correction = "adjusted",
) -> Tensor:
    """Configuration quality: coupling quality times relevance realization rate.

    It inherits R3's taste for dense models: compare models of like sparsity.

    Args:
        x: integers in [-1, K) of any shape; -1 for none.
        y: integers in [-1, L), of the same shape.
        accuracy: fraction in [0, 1].
        num_x: K.
        num_y: L.
        total_params: every parameter once.
        active_params: parameters that one token touches.
        random_baseline: the accuracy of chance, in (0, 1).
        mask: booleans of the leading shape of the labels, false where there is no observation.
        correction: that of :func:`mutual_information`.

    Returns:
        A plain number, at most 1 / random_baseline; NaN as :func:`coupling_quality`.

    Raises:
        ValueError: as ``relevance_realization_rate`` and :func:`coupling_quality`.

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 1.

    Example:
        >>> x = torch.arange(400) % 2
        >>> facts = {"total_params": 671e9, "active_params": 37e9, "random_baseline": 0.25}
        >>> configuration_quality(x, x, 0.85, num_x=2, num_y=2, **facts)
        tensor(0.1875, dtype=torch.float64)
    """
    rate = relevance_realization_rate(accuracy, total_params, active_params, random_baseline)
    return coupling_quality(x, y, mask, num_x=num_x, num_y=num_y, correction=correction).to(rate.device) * rate


@checked
def relevance_density(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None = None,
    *,
    num_x: int,
    num_y: int,
    num_pixels: float,
    correction: Correction = "adjusted",
) -> Tensor:
    """Relevance density: what a query and a patch tell of each other, per pixel of the patch, in bits.

    Args:
        x: labels of queries, integers in [-1, K) of any shape; -1 for none.
        y: labels of patches, integers in [-1, L), of the same shape.
        mask: booleans of the leading shape of the labels, false where there is no observation.
        num_x: K.
        num_y: L.
        num_pixels: the area of one patch.
        correction: that of :func:`mutual_information`.

    Returns:
        Bits per pixel; NaN as :func:`mutual_information`.

    Raises:
        ValueError: if ``num_pixels`` is not above 0, or as :func:`mutual_information`.

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 2.

    Example:
        >>> x = torch.arange(400) % 2
        >>> relevance_density(x, x, num_x=2, num_y=2, num_pixels=16 * 16)
        tensor(0.0039, dtype=torch.float64)
    """
    counts, num_outside = count_labels({"x": x, "y": y}, (num_x, num_y), mask)
    return unless_invalid(relevance_density_compute(counts, num_pixels, correction=correction), num_outside)


@checked
def relevance_density_compute(counts: Tensor, num_pixels: float, *, correction: Correction = "adjusted") -> Tensor:
    """Bits per pixel of contingency tables ``[..., K, L]``; see :func:`relevance_density`.

    Example:
        >>> relevance_density_compute(torch.tensor([[5, 0], [0, 5]]), num_pixels=16 * 16)
        tensor(0.0039, dtype=torch.float64)
    """
    return discrete_mutual_information(counts, correction=correction) / require_positive("num_pixels", num_pixels)
