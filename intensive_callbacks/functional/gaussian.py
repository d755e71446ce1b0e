"""Mutual information of continuous vectors from their covariance, or from that of their ranks, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.boundary import warn
from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.functional.ranks import score_by_rank
from intensive_callbacks.functional.signatures import checked

__all__ = ["gaussian_copula_information", "gaussian_information"]


@checked
def gaussian_information(x: Tensor, y: Tensor) -> Tensor:
    r"""Mutual information of two normal vectors, from their covariance.

    .. math:: I = -\frac{1}{2} \sum_i \log_2 (1 - \rho_i^2)

    with the canonical correlations :math:`\rho`. The expected excess of the plain estimate, which grows as the product
    of the dimensions, is taken off exactly (the mean log determinant of a Wishart matrix), so the value scatters around
    0 for independent data and may be below. What is not linear is not seen.

    Args:
        x: ``[n, d_x]``; rows that are not finite are left out, columns that are constant or depend on others say
            nothing new.
        y: ``[n, d_y]``.

    Returns:
        Bits, a scalar; NaN, with a warning, where there are not more samples than dimensions, or where one vector
        determines part of the other, which makes the information infinite.

    Raises:
        ValueError: if the shapes do not fit.

    Source:
        Gelfand and Yaglom 1957; Misra, Singh and Demchuk 2005 for the bias.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(10_000, 1, generator=generator)
        >>> y = 0.8 * x + 0.6 * torch.randn(10_000, 1, generator=generator)
        >>> gaussian_information(x, y)  # truly -log2(1 - 0.8²) / 2 = 0.737
        tensor(0.7451, dtype=torch.float64)
    """
    x, y = (as_float64(side) for side in finite_rows(x, y))
    return _gaussian_bits(x - x.mean(0), y - y.mean(0))


@checked
def gaussian_copula_information(x: Tensor, y: Tensor) -> Tensor:
    """Mutual information of two vectors whose ranks are as those of normal ones: a lower bound in spirit.

    Each column is replaced by the normal scores of its ranks, so that any increasing change of a coordinate changes
    nothing; then it is :func:`gaussian_information`. Dependence that is not monotone, as that of abs(x) on x, is not
    seen.

    Args:
        x: ``[n, d_x]``; rows that are not finite are left out, columns that are constant or depend on others say
            nothing new.
        y: ``[n, d_y]``.

    Returns:
        Bits, a scalar; NaN, with a warning, where :func:`gaussian_information` is.

    Raises:
        ValueError: if the shapes do not fit.

    Source:
        Ince et al. 2017, "A statistical framework for neuroimaging data analysis based on mutual information estimated
        via a Gaussian copula".

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(10_000, 1, generator=generator)
        >>> y = 0.8 * x + 0.6 * torch.randn(10_000, 1, generator=generator)
        >>> gaussian_copula_information(x.exp(), y**3)  # truly 0.737
        tensor(0.7436, dtype=torch.float64)
    """
    x, y = finite_rows(x, y)
    ranks = torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device)
    scores = torch.special.ndtri(ranks / (len(x) + 1)).float()
    return _gaussian_bits(score_by_rank(x.T, scores).T, score_by_rank(y.T, scores).T)


def finite_rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or 0 in (x.shape[1], y.shape[1]):
        raise ValueError(f"x and y must be [n, d_x] and [n, d_y], got {tuple(x.shape)} and {tuple(y.shape)}")
    finite = x.isfinite().all(-1) & y.isfinite().all(-1)
    x, y = (side.detach() if side.is_floating_point() else as_float64(side) for side in (x, y))
    return (x, y) if finite.all() else (x[finite], y[finite])


def undefined_information(reason: str) -> Tensor:
    """NaN, with a warning that gives the reason."""
    warn(f"the mutual information is undefined (NaN): {reason}", UserWarning, stacklevel=4)
    return as_float64(torch.nan)


def _gaussian_bits(x: Tensor, y: Tensor) -> Tensor:
    """Of samples around their mean."""
    num_samples, num_dims = len(x), x.shape[1] + y.shape[1]
    if num_samples < 2 or num_samples <= num_dims + 1:
        return undefined_information(
            f"{num_samples} samples are too few for {num_dims} dimensions; use more, or fewer dimensions"
        )
    if num_samples < 2 * num_dims:
        warn(f"{num_samples} samples for {num_dims} dimensions: expect errors of a bit", UserWarning, stacklevel=4)
    x, y = _varying(x), _varying(y)
    if x.shape[1] == 0 or y.shape[1] == 0:
        return as_float64(x.new_zeros(()))  # a constant is independent of everything
    # Single precision is enough, and twice as fast, unless columns nearly determine each other.
    unexplained, dims = _unexplained(x.float(), y.float())
    if unexplained is None or unexplained.amin() < 1e-2:
        unexplained, dims = _unexplained(as_float64(x), as_float64(y), by_eigenvalues=True)
    if unexplained is None or unexplained.amin() < 1e-9:
        return undefined_information(
            "part of one vector is determined by the other, which makes it infinite; declare a noise"
        )
    nats: Tensor = -0.5 * unexplained.log().sum() - _excess(num_samples, *dims)
    return nats / math.log(2.0)


def _unexplained(x: Tensor, y: Tensor, *, by_eigenvalues: bool = False) -> tuple[Tensor | None, tuple[int, int]]:
    """1 - rho² of every canonical correlation, and the ranks of x and y; ``None`` where Cholesky's way fails."""
    whiten = _whitening_of_rank if by_eigenvalues else _whitening
    white_x, white_y = whiten(_scatter(x)), whiten(_scatter(y))
    if white_x is None or white_y is None:
        return None, (0, 0)
    correlation = white_x.T @ as_float64(x.T @ y) @ white_y
    short = correlation if correlation.shape[0] < correlation.shape[1] else correlation.T
    identity = torch.eye(len(short), dtype=short.dtype, device=short.device)
    return torch.linalg.eigvalsh(identity - short @ short.T), (correlation.shape[0], correlation.shape[1])


def _varying(samples: Tensor) -> Tensor:
    varies = samples.amax(0) > samples.amin(0)
    return samples if varies.all() else samples[:, varies]


def _scatter(x: Tensor) -> Tensor:
    """``x.T @ x``, of whose symmetric halves one is enough."""
    if x.shape[1] <= 128:
        return as_float64(x.T @ x)
    first, second = x.tensor_split(2, dim=1)
    cross = as_float64(first.T @ second)
    return torch.cat([torch.cat([_scatter(first), cross], dim=1), torch.cat([cross.T, _scatter(second)], dim=1)])


def _whitening(scatter: Tensor) -> Tensor | None:
    """``[d, d]`` that turns the columns with this scatter matrix into orthonormal ones, where they are well apart."""
    scale = scatter.diagonal().sqrt()
    factor, failed = torch.linalg.cholesky_ex(scatter / scale / scale[:, None])
    if failed or not factor.diagonal().amin() >= 0.1:  # nor where it overflowed to NaN
        return None
    inverse: Tensor = torch.linalg.solve_triangular(factor, torch.diag(1 / scale), upper=False)
    return inverse.T


def _whitening_of_rank(scatter: Tensor) -> Tensor:
    """``[d, r]``, of the same use for columns that depend on others, at ten times the cost."""
    scale = scatter.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(scatter / scale / scale[:, None])
    there = values > len(values) * 1e-10
    whitening: Tensor = vectors[:, there] / values[there].sqrt() / scale[:, None]
    return whitening


def _excess(num_samples: int, num_x: int, num_y: int) -> float:
    """What the plain estimate has too much, in nats: from the mean log determinant of a Wishart matrix."""
    half = torch.special.digamma(0.5 * torch.arange(num_samples - 1, 0, -1, dtype=torch.float64)[: num_x + num_y])
    return float(0.5 * (half[:num_x].sum() + half[:num_y].sum() - half.sum()))
