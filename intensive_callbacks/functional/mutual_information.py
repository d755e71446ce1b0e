"""The information that a model's output carries about its input: one estimator for each kind of channel, in bits."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.functional.ranks import score_by_rank

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "gaussian_copula_information",
    "gaussian_information",
    "ksg_information",
    "predictive_information",
    "seed_information",
    "usable_information",
]


class PredictionSums(NamedTuple):
    """Sums over the predictions of a classifier, from which both its informations are formed; entropies in nats."""

    probability: Tensor  # [K]
    entropy: Tensor
    num_rows: Tensor
    label_counts: Tensor  # [K]
    cross_entropy: Tensor


def predictive_information(logits: Tensor) -> Tensor:
    r"""Predictive information: what the class that a classifier would draw tells about the input that it was shown.

    .. math:: I(X; C) = H(\bar p) - \overline{H(p)}

    The channel is the classifier itself, which draws class c with probability p_c: the value is exact for the inputs
    seen, and it does not ask whether the classes are right. :func:`usable_information` does.

    Args:
        logits: ``[..., K]`` with K >= 2; rows that are not finite are left out, but a logit may be -inf.

    Returns:
        Bits per example, a scalar in [0, log2 K]; NaN without a row.

    Raises:
        ValueError: if there are fewer than two classes.

    Source:
        The mutual information of a channel with this transition matrix (Shannon 1948).

    Example:
        >>> predictive_information(torch.tensor([[30.0, 0.0], [0.0, 30.0]]))  # two sure answers
        tensor(1.0000, dtype=torch.float64)
    """
    return predictive_of_sums(prediction_sums(logits))


def usable_information(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Usable information: how much better a classifier predicts the labels than their frequencies do.

    .. math:: H(Y) - CE(Y \mid X)

    It falls below 0 where the classifier is wrong and sure of it.

    Args:
        logits: ``[..., K]`` with K >= 2; rows that are not finite are left out, but a logit may be -inf.
        labels: ``[...]`` integers in [0, K); a negative label is ignored.

    Returns:
        Bits per example, a scalar in [-inf, log2 K]; NaN without a label.

    Raises:
        ValueError: if there are fewer than two classes, or the labels do not fit the logits.

    Source:
        Xu et al. 2020, "A theory of usable information under computational constraints", arXiv 2002.10689.

    Example:
        >>> logits = torch.tensor([[30.0, 0.0], [0.0, 30.0]])
        >>> usable_information(logits, torch.tensor([0, 1]))
        tensor(1., dtype=torch.float64)
    """
    return usable_of_sums(prediction_sums(logits, labels))


def prediction_sums(logits: Tensor, labels: Tensor | None = None) -> PredictionSums:
    """The sums of one batch; without labels the last two are zero."""
    num_classes = logits.shape[-1] if logits.dim() else 0
    if num_classes < 2:
        raise ValueError(f"logits must be [..., K] with K >= 2 classes, got {tuple(logits.shape)}")
    if labels is None:
        labels = torch.full(logits.shape[:-1], -1, device=logits.device)
    if labels.shape != logits.shape[:-1] or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers of shape {tuple(logits.shape[:-1])}, got {labels.dtype} {tuple(labels.shape)}"
        )
    # Blocks that stay in a processor's cache take a third of the time; a GPU prefers the whole.
    block = max(1, 2**17 // num_classes) if logits.device.type == "cpu" else max(1, labels.numel())
    rows = logits.detach().reshape(-1, num_classes)
    sums = [
        _block_sums(*part) for part in zip(torch.split(rows, block), torch.split(labels.flatten(), block), strict=True)
    ]
    return PredictionSums(*(torch.stack(parts).sum(0) for parts in zip(*sums, strict=True)))


def _block_sums(logits: Tensor, labels: Tensor) -> PredictionSums:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    p, log_p = logits.softmax(-1), logits.log_softmax(-1)
    entropy = -(p * log_p.clamp_min(-1e4)).sum(-1)  # p is exactly 0 there, and 0 times -inf would be NaN
    valid = ~entropy.isnan()  # one value that is not finite makes the whole row NaN
    labelled = valid & (labels >= 0)
    index = torch.where(labelled, labels, 0).to(torch.int64)
    chosen = torch.where(labelled, log_p.gather(-1, index[:, None]).squeeze(-1), 0.0)
    probability = as_float64(p.nansum(0))
    label_counts = torch.zeros_like(probability).scatter_add(0, index, labelled.to(probability.dtype))
    return PredictionSums(
        probability, as_float64(entropy).nansum(), valid.sum(), label_counts, -as_float64(chosen).sum()
    )


def predictive_of_sums(sums: PredictionSums) -> Tensor:
    """:func:`predictive_information` of what was summed."""
    nats = _entropy(sums.probability / sums.num_rows) - sums.entropy / sums.num_rows
    return nats.clamp_min(0.0) / math.log(2.0)


def usable_of_sums(sums: PredictionSums) -> Tensor:
    """:func:`usable_information` of what was summed."""
    num_labels = sums.label_counts.sum()
    nats = _entropy(sums.label_counts / num_labels) - sums.cross_entropy / num_labels
    return nats / math.log(2.0)


def _entropy(shares: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy


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
    return _gaussian_bits(*_finite_rows(x, y))


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
    x, y = _finite_rows(x, y)
    ranks = torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device)
    scores = torch.special.ndtri(ranks / (len(x) + 1))
    return _gaussian_bits(score_by_rank(x.T, scores).T, score_by_rank(y.T, scores).T)


def _finite_rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
        raise ValueError(f"x and y must be [n, d_x] and [n, d_y], got {tuple(x.shape)} and {tuple(y.shape)}")
    finite = x.isfinite().all(-1) & y.isfinite().all(-1)
    return x[finite].detach(), y[finite].detach()


def _refuse(reason: str) -> Tensor:
    warnings.warn(f"no mutual information: {reason}", UserWarning, stacklevel=3)
    return as_float64(torch.nan)


def _gaussian_bits(x: Tensor, y: Tensor) -> Tensor:
    num_samples, num_dims = len(x), x.shape[1] + y.shape[1]
    if num_samples < 2 or num_samples <= num_dims + 1:
        return _refuse(f"{num_samples} samples are too few for {num_dims} dimensions; use more, or fewer dimensions")
    if num_samples < 2 * num_dims:
        warnings.warn(f"{num_samples} samples for {num_dims} dimensions: expect errors of a bit", stacklevel=3)
    x, y = (as_float64(side[:, side.amax(0) > side.amin(0)]) for side in (x, y))
    if x.shape[1] == 0 or y.shape[1] == 0:
        return x.new_zeros(())  # a constant is independent of everything
    x, y = x - x.mean(0), y - y.mean(0)
    correlation = _whitening(x.T @ x).T @ (x.T @ y) @ _whitening(y.T @ y)
    short = correlation if correlation.shape[0] < correlation.shape[1] else correlation.T
    unexplained = torch.linalg.eigvalsh(torch.eye(len(short), dtype=x.dtype, device=x.device) - short @ short.T)
    if unexplained.amin() < 1e-9:
        return _refuse("part of one vector is determined by the other, which makes it infinite; declare a noise")
    nats: Tensor = -0.5 * unexplained.log().sum() - _excess(num_samples, *correlation.shape)
    return nats / math.log(2.0)


def _whitening(scatter: Tensor) -> Tensor:
    """``[d, r]`` that turns the columns with this scatter matrix into r orthonormal ones."""
    scale = scatter.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(scatter / scale / scale[:, None])
    there = values > len(values) * 1e-10
    whitening: Tensor = vectors[:, there] / values[there].sqrt() / scale[:, None]
    return whitening


def _excess(num_samples: int, num_x: int, num_y: int) -> float:
    """What the plain estimate has too much, in nats: from the mean log determinant of a Wishart matrix."""
    half = torch.special.digamma(0.5 * torch.arange(num_samples - 1, 0, -1, dtype=torch.float64)[: num_x + num_y])
    return float(0.5 * (half[:num_x].sum() + half[:num_y].sum() - half.sum()))


def ksg_information(x: Tensor, y: Tensor, *, num_neighbors: int = 3) -> Tensor:
    r"""Mutual information of two continuous vectors of few dimensions, from the distances of nearest neighbours.

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
    neighbors = _scikit_learn("neighbors")
    x, y = _finite_rows(x, y)
    if len(x) <= num_neighbors:
        return _refuse(f"{len(x)} samples are too few for {num_neighbors} neighbours")
    if max(x.shape[1], y.shape[1]) > 3:
        warnings.warn(
            f"nearest neighbours in {x.shape[1]} and {y.shape[1]} dimensions tell far too little; "
            "use the Gaussian copula above three",
            stacklevel=2,
        )
    sides = [((side - side.mean(0)) / side.std(0)).nan_to_num(0.0).double().cpu().numpy() for side in (x, y)]
    joint = torch.cat([torch.as_tensor(side) for side in sides], dim=1).numpy()
    nearest = neighbors.NearestNeighbors(n_neighbors=num_neighbors, metric="chebyshev").fit(joint)
    radius = torch.as_tensor(nearest.kneighbors()[0][:, -1])
    if radius.amin() == 0:
        return _refuse("samples are repeated; nearest neighbours are for continuous data")
    inside = torch.nextafter(radius, torch.zeros_like(radius)).numpy()
    counts = [
        torch.as_tensor(neighbors.KDTree(side, metric="chebyshev").query_radius(side, inside, count_only=True))
        for side in sides  # a sample finds itself, so these are n_x + 1 and n_y + 1
    ]
    near = sum(torch.special.digamma(count.double()).mean() for count in counts)
    known = torch.tensor([num_neighbors, len(x)], dtype=torch.float64)
    nats: Tensor = torch.special.digamma(known).sum() - near
    return nats / math.log(2.0)


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
    x, y = _finite_rows(x, y)
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
