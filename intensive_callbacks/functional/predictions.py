"""The information in what a classifier predicts, in bits."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

__all__ = ["predictive_information", "usable_information"]


class PredictionSums(NamedTuple):
    """Sums over the predictions of a classifier, from which both its informations are formed; entropies in nats."""

    probability: Tensor  # [K]
    entropy: Tensor
    num_rows: Tensor
    label_counts: Tensor  # [K]
    cross_entropy: Tensor


@checked
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
    return predictive_information_compute(predictions_update(logits))


@checked
def usable_information(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Usable information: how much better a classifier predicts the labels than their frequencies do.

    .. math:: H(Y) - CE(Y \mid X)

    It falls below 0 where the classifier is wrong and sure of it.

    Args:
        logits: ``[..., K]`` with K >= 2; rows that are not finite are left out, but a logit may be -inf.
        labels: ``[...]`` integers in [0, K); a negative label is ignored.

    Returns:
        Bits per example, a scalar in [-inf, log2 K]; NaN without a label or with one of K or above.

    Raises:
        ValueError: if there are fewer than two classes, or the labels do not fit the logits.

    Source:
        Xu et al. 2020, "A theory of usable information under computational constraints", arXiv 2002.10689.

    Example:
        >>> logits = torch.tensor([[30.0, 0.0], [0.0, 30.0]])
        >>> usable_information(logits, torch.tensor([0, 1]))
        tensor(1., dtype=torch.float64)
    """
    outside = labels >= logits.shape[-1] if logits.dim() else labels >= 0
    value = usable_information_compute(predictions_update(logits, torch.where(outside, -1, labels)))
    return unless_invalid(value, outside.sum())


def predictions_update(logits: Tensor, labels: Tensor | None = None) -> PredictionSums:
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
    labeled = valid & (labels >= 0)
    index = torch.where(labeled, labels, 0).to(torch.int64)
    chosen = torch.where(labeled, log_p.gather(-1, index[:, None]).squeeze(-1), 0.0)
    probability = as_float64(p.nansum(0))
    label_counts = torch.zeros_like(probability).scatter_add(0, index, labeled.to(probability.dtype))
    return PredictionSums(
        probability, as_float64(entropy).nansum(), valid.sum(), label_counts, -as_float64(chosen).sum()
    )


def predictive_information_compute(sums: PredictionSums) -> Tensor:
    """:func:`predictive_information` of what was summed."""
    nats = _entropy(sums.probability / sums.num_rows) - sums.entropy / sums.num_rows
    return nats.clamp_min(0.0) / math.log(2.0)


def usable_information_compute(sums: PredictionSums) -> Tensor:
    """:func:`usable_information` of what was summed."""
    num_labels = sums.label_counts.sum()
    nats = _entropy(sums.label_counts / num_labels) - sums.cross_entropy / num_labels
    return nats / math.log(2.0)


def _entropy(shares: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy
