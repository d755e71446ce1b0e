"""What a bottleneck keeps of its input, and of what is relevant in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import LARGEST, as_float64, require_layout, require_square
from intensive_callbacks.functional.information import Correction, count_labels, discrete_mutual_information
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

__all__ = [
    "InformationPlane",
    "gaussian_information_bottleneck",
    "information_bottleneck",
    "information_bottleneck_compute",
    "information_bottleneck_update",
]


class InformationPlane(NamedTuple):
    """Where a representation T of X lies between compression and relevance, in bits.

    Attributes:
        input_information: I(X;T).
        target_information: I(T;Y).
    """

    input_information: Tensor
    target_information: Tensor


@checked
def information_bottleneck(
    x: Tensor,
    codes: Tensor,
    y: Tensor,
    *,
    num_x: int,
    num_codes: int,
    num_y: int,
    beta: float,
    correction: Correction = "adjusted",
) -> Tensor:
    r"""The information bottleneck's objective for a discrete representation, in bits; lower is better.

    .. math:: I(X;T) - \beta I(T;Y)

    For discrete T only (codes, experts, quantized units). For a deterministic network with continuous input and output
    I(X;T) is infinite, whatever an estimate from bins says; its "compression phase" is made by the bins. Where every
    input is seen once, I(X;T) is H(T) and no correction can tell: use ``correction="none"`` with as many observations
    as H(T) needs.

    Args:
        x: the inputs' identities or classes, integers in [-1, K) of any shape; -1 for none.
        codes: T, integers in [-1, C), of the same shape.
        y: the targets, integers in [-1, L), of the same shape.
        num_x: K.
        num_codes: C.
        num_y: L.
        beta: the price of relevance, not negative.
        correction: that of :func:`mutual_information`.

    Returns:
        Bits; NaN as :func:`mutual_information`.

    Raises:
        ValueError: if ``beta`` is negative, the codes are not integers, or as :func:`mutual_information`.

    Source:
        Tishby, Pereira and Bialek 1999, arXiv:physics/0004057; Saxe et al. 2018 on bins.

    Example:
        >>> x = torch.arange(400) % 4
        >>> information_bottleneck(x, x // 2, x // 2, num_x=4, num_codes=2, num_y=2, beta=2.0)  # 1 - 2 * 1
        tensor(-1., dtype=torch.float64)
    """
    input_counts, target_counts, num_outside = information_bottleneck_update(x, codes, y, (num_x, num_codes, num_y))
    value = information_bottleneck_compute(input_counts, target_counts, beta, correction=correction)
    return unless_invalid(value, num_outside)


@checked
def information_bottleneck_update(
    x: Tensor, codes: Tensor, y: Tensor, sizes: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The contingency tables of X and T and of T and Y, of variables of such sizes, and how many labels lay outside."""
    if codes.is_floating_point():
        raise ValueError(
            "codes must be integers: of a deterministic representation that is continuous I(X;T) is infinite; "
            "quantize it, or use gaussian_information_bottleneck for one with declared Gaussian noise"
        )
    num_x, num_codes, num_y = sizes
    input_counts, inputs_outside = count_labels({"x": x, "codes": codes}, (num_x, num_codes))
    target_counts, targets_outside = count_labels({"codes": codes, "y": y}, (num_codes, num_y))
    return input_counts, target_counts, inputs_outside + targets_outside


@checked
def information_bottleneck_compute(
    input_counts: Tensor,
    target_counts: Tensor,
    beta: float,
    *,
    correction: Correction = "adjusted",
) -> Tensor:
    """Bits of contingency tables ``[..., K, C]`` and ``[..., C, L]``; see :func:`information_bottleneck`.

    Example:
        >>> keeps = torch.tensor([[5, 0], [0, 5]])
        >>> information_bottleneck_compute(keeps, keeps, beta=2.0)  # 1 - 2 * 1
        tensor(-1., dtype=torch.float64)
    """
    _require_beta(beta)
    require_layout("input_counts", input_counts, "[..., K, C]", 2)
    require_layout("target_counts", target_counts, "[..., C, L]", 2)
    compression = discrete_mutual_information(input_counts, correction=correction)
    return compression - beta * discrete_mutual_information(target_counts, correction=correction)


def _require_beta(beta: float) -> None:
    if not 0 <= beta <= LARGEST:
        raise ValueError("beta must be a finite number of at least 0")


@checked
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
        ValueError: if ``beta`` is negative, or the covariance does not fit or is not positive definite.

    Source:
        Chechik, Globerson, Tishby and Weiss 2005, "Information bottleneck for Gaussian variables".

    Example:
        >>> gaussian_information_bottleneck(torch.tensor([[1.0, 0.8], [0.8, 1.0]]), num_inputs=1, beta=4.6875)
        InformationPlane(input_information=tensor(1.3564, dtype=torch.float64),
                         target_information=tensor(0.5639, dtype=torch.float64))
    """
    require_square("covariance", covariance)
    size = covariance.shape[-1]
    if covariance.dim() != 2 or not 0 < num_inputs < size:
        raise ValueError(
            f"need an [n, n] covariance and 0 < num_inputs < n, got {tuple(covariance.shape)} and {num_inputs}"
        )
    _require_beta(beta)
    joint = as_float64(covariance)
    if torch.linalg.cholesky_ex(joint.nan_to_num()).info or not joint.isfinite().all():
        raise ValueError("covariance must be finite and positive definite; remove variables that depend on others")
    x, y = joint[:num_inputs, :num_inputs], joint[num_inputs:, num_inputs:]
    cross = joint[:num_inputs, num_inputs:]
    explained = torch.linalg.solve(x, cross @ torch.linalg.solve(y, cross.T))
    known = torch.linalg.eigvals(explained).real.clamp(0, 1)  # 1 - lambda, the squared canonical correlations
    pays = known[beta * known > 1]
    kept = ((beta - 1) * pays / (1 - pays)).log2().sum() / 2
    return InformationPlane(kept, kept - (beta * pays).log2().sum() / 2)
