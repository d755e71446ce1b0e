"""The information of a task, as a metric: ``functional/task_information.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import require_positive
from intensive_callbacks.functional.task_information import task_information_compute, task_information_update
from intensive_callbacks.metrics.base import CheckedMetric

__all__ = ["TaskInformation"]


class TaskInformation(CheckedMetric):
    r"""Usable information that predictions hold of a task, in bits per example (and per dimension).

    .. math:: I_V = H(Y) - \mathrm{CE}(Y \mid X)

    ``update(logits, target)`` takes ``[..., K]`` and integers ``[...]``, negative where there is no label; ``compute``
    returns bits, NaN before the first example or after a label that is no class: H(Y) for perfect predictions,
    H(Y) - log2 K for uniform ones, below 0 where the model is worse than the label frequencies. Feed it held-out
    examples: on training examples it counts what was learned by heart.

    Args:
        num_classes: K.
        num_dimensions: of the representation that the predictions were read from; 1 gives bits per example.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_dimensions`` is not above 0; on update, if the shapes do not fit.

    Source:
        Xu et al. 2020, arXiv:2002.10689; "Intensive Intelligence: Mathematical Foundations", summary.

    Example:
        >>> from intensive_callbacks import TaskInformation
        >>> task = TaskInformation(num_classes=2, num_dimensions=64)
        >>> task.update(torch.tensor([[50.0, 0.0], [0.0, 50.0]]), torch.tensor([0, 1]))
        >>> task.compute()
        tensor(0.0156)
    """

    higher_is_better = True
    undefined = "no example with a label has been seen"
    invalid = "the labels in target were num_classes or above; the first class is 0"
    label_counts: Tensor
    cross_entropy: Tensor

    def __init__(self, num_classes: int, *, num_dimensions: float = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.num_dimensions = require_positive("num_dimensions", num_dimensions)
        self.add_sum("label_counts", (num_classes,), torch.int64)
        self.add_sum("cross_entropy")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add the predictions of one batch."""
        if logits.shape[-1:] != (self.num_classes,):
            raise ValueError(f"logits must be [..., {self.num_classes}], got {tuple(logits.shape)}")
        counts, cross_entropy, num_invalid = task_information_update(logits.detach(), target)
        self.label_counts += counts
        self.cross_entropy += cross_entropy
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """The usable information of all predictions."""
        return self.unless_invalid(task_information_compute(self.label_counts, self.cross_entropy, self.num_dimensions))
