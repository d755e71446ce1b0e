"""The information of a task that predictions hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_ids, require_layout, require_positive
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

__all__ = ["task_information", "task_information_compute", "task_information_update"]


@checked
def task_information(logits: Tensor, target: Tensor, *, num_dimensions: float = 1) -> Tensor:
    r"""Usable information that predictions hold of a task, in bits per example (and per dimension).

    .. math:: I_V = H(Y) - \mathrm{CE}(Y \mid X)

    H(Y) is the entropy of the labels seen, the least loss without an input. A lower bound of the mutual information,
    on held-out examples: on training examples it counts what was learned by heart. It falls below 0 where the model is
    worse than the label frequencies. Taken per dimension of the representation that the predictions were read from, it
    is the source's "intelligence"; dimensions that nothing reads still count.

    Args:
        logits: ``[..., K]``.
        target: labels, integers ``[...]`` below K; negative where there is none.
        num_dimensions: of the representation; 1 gives bits per example.

    Returns:
        Bits, a scalar of at most H(Y) / num_dimensions; NaN without examples or with a label of K or above.

    Raises:
        ValueError: if ``num_dimensions`` is not above 0, the labels are no integers or the shapes do not fit.

    Source:
        Xu et al. 2020, arXiv:2002.10689; "Intensive Intelligence: Mathematical Foundations", summary.

    Example:
        >>> perfect = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
        >>> task_information(perfect, torch.tensor([0, 1]))
        tensor(1., dtype=torch.float64)
    """
    label_counts, cross_entropy, num_invalid = task_information_update(logits, target)
    return unless_invalid(task_information_compute(label_counts, cross_entropy, num_dimensions), num_invalid)


@checked
def task_information_update(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts of the labels, ``[K]`` int64, the sum of their cross-entropies in nats, and the labels of K and above.

    Example:
        >>> task_information_update(torch.zeros(3, 2), torch.tensor([1, -100, 7]))
        (tensor([0, 1]), tensor(0.6931, dtype=torch.float64), tensor(1))
    """
    if logits.dim() == 0 or logits.shape[:-1] != target.shape:
        raise ValueError(f"logits must be [..., K] for targets [...], got {tuple(logits.shape)}, {tuple(target.shape)}")
    require_layout("logits", logits, "[..., K] with at least one class")
    require_ids("target", target)
    num_classes = logits.shape[-1]
    log_probabilities = as_float64(logits).log_softmax(-1).reshape(-1, num_classes)
    labels = target.flatten().to(torch.int64)
    given = (labels >= 0) & (labels < num_classes)
    chosen = log_probabilities.gather(-1, torch.where(given, labels, 0).unsqueeze(-1)).squeeze(-1)
    # Slot 0 takes the examples without a label, so that nothing has to be selected.
    counts = torch.zeros(num_classes + 1, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(0, torch.where(given, labels + 1, 0), torch.ones_like(labels))
    return counts[1:], -torch.where(given, chosen, 0).sum(), (labels >= num_classes).sum()


@checked
def task_information_compute(label_counts: Tensor, cross_entropy: Tensor, num_dimensions: float = 1) -> Tensor:
    """H(Y) less the mean cross-entropy, in bits per dimension."""
    num = label_counts.sum()
    entropy: Tensor = torch.special.entr(as_float64(label_counts) / num).sum()
    return (entropy - cross_entropy / num) / math.log(2) / require_positive("num_dimensions", num_dimensions)
