"""Mutual information of continuous vectors from the distances of nearest neighbors, in bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from intensive_callbacks.boundary import warn
from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.functional.gaussian import finite_rows, undefined_information
from intensive_callbacks.functional.signatures import checked

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

__all__ = ["ksg_information", "seed_information"]


@checked
def ksg_information(x: Tensor, y: Tensor, *, num_neighbors: int = 3) -> Tensor:
    r"""Mutual information of two continuous vectors of few dimensions, from the distances of nearest neighbors.

    .. math:: I = \psi(k) + \psi(n) - \overline{\psi(n_x + 1) + \psi(n_y + 1)}

    It sees every dependence, but with more than three dimensions a side it falls far below the truth.

    Args:
        x: ``[n, d_x]``; rows that are not finite are left out.
        y: ``[n, d_y]``.
        num_neighbors: k.

    Returns:
        Bits, a scalar, around 0 for independent data and perhaps below; NaN, with a warning, with no more than k
        samples and where samples are repeated, as discrete ones are.

    Raises:
        ValueError: if the shapes do not fit.
        ImportError: without scikit-learn, which the extra ``mi`` brings.

    Source:
        Kraskov, Stoegbauer and Grassberger 2004, "Estimating mutual information", the first algorithm.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(2000, 1, generator=generator)
        >>> y = x.abs() + 0.1 * torch.randn(2000, 1, generator=generator)
        >>> ksg_information(x, y)
        tensor(2.5361, dtype=torch.float64)
    """
    if num_neighbors < 1:
        raise ValueError(f"num_neighbors must be at least 1, got {num_neighbors}")
    neighbors = _scikit_learn("neighbors")
    x, y = finite_rows(x, y)
    if len(x) <= num_neighbors:
        return undefined_information(f"{len(x)} samples are too few for {num_neighbors} neighbors")
    if max(x.shape[1], y.shape[1]) > 3:
        warn(
            f"nearest neighbors in {x.shape[1]} and {y.shape[1]} dimensions tell far too little; "
            "use the Gaussian copula above three",
            UserWarning,
            stacklevel=3,
        )
    sides = [((side - side.mean(0)) / side.std(0)).nan_to_num(0.0).double().cpu().numpy() for side in (x, y)]
    joint = torch.cat([torch.as_tensor(side) for side in sides], dim=1).numpy()
    nearest = neighbors.NearestNeighbors(n_neighbors=num_neighbors, metric="chebyshev").fit(joint)
    radius = torch.as_tensor(nearest.kneighbors()[0][:, -1])
    if radius.amin() == 0:
        return undefined_information("samples are repeated; nearest neighbors are for continuous data")
    inside = torch.nextafter(radius, torch.zeros_like(radius)).numpy()
    counts = [
        torch.as_tensor(neighbors.KDTree(side, metric="chebyshev").query_radius(side, inside, count_only=True))
        for side in sides  # a sample finds itself, so these are n_x + 1 and n_y + 1
    ]
    near = sum(torch.special.digamma(count.double()).mean() for count in counts)
    known = torch.tensor([num_neighbors, len(x)], dtype=torch.float64)
    nats: Tensor = torch.special.digamma(known).sum() - near
    return nats / math.log(2.0)


@checked
def seed_information(x: Tensor, y: Tensor) -> Tensor:
    """The proxy of the metric's source: the mean over input columns of their information with the first output column.

    It is no bound on the mutual information of the vectors: columns that say nothing pull it down, and all outputs but
    the first are left out. Kept because published values use it.

    Args:
        x: ``[n, d_x]``; rows that are not finite are left out.
        y: ``[n, d_y]``.

    Returns:
        Bits (the source leaves scikit-learn's nats), a scalar, at least 0.

    Raises:
        ValueError: if the shapes do not fit.
        ImportError: without scikit-learn, which the extra ``mi`` brings.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 7, its code.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(1000, 2, generator=generator)
        >>> seed_information(x, x[:, :1] + torch.randn(1000, 1, generator=generator))  # 0.5 and 0, by half
        tensor(0.3100, dtype=torch.float64)
    """
    selection = _scikit_learn("feature_selection")
    x, y = finite_rows(x, y)
    nats = selection.mutual_info_regression(x.double().cpu().numpy(), y[:, 0].double().cpu().numpy(), random_state=0)
    return as_float64(float(nats.mean())) / math.log(2.0)


def _scikit_learn(name: str) -> ModuleType:
    try:
        from importlib import import_module

        return import_module(f"sklearn.{name}")
    except ImportError as error:
        raise ImportError(
            "this estimator needs scikit-learn: pip install 'intensive-callbacks[mi]'; "
            "'predictive', 'usable', 'gaussian' and 'gaussian_copula' do not"
        ) from error
