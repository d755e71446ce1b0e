"""Relevance, as metrics: :mod:`intensive_callbacks.functional.relevance` has the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.functional import information, relevance
from intensive_callbacks.functional.checks import require_positive
from intensive_callbacks.metrics.base import IntensiveMetric, companion

if TYPE_CHECKING:
    from intensive_callbacks.functional.information import Correction
    from intensive_callbacks.functional.relevance import Divergence

__all__ = ["InformationBottleneck", "SalienceDivergence", "TaskInformation"]


class SalienceDivergence(IntensiveMetric):
    r"""Divergence of a model's salience from people's, the mean over maps, in nats.

    .. math:: D = \sum_i p_i \ln \frac{p_i}{q_i}

    ``update(human, model, mask=None)`` takes ``[..., P]`` twice, not negative, with a booleans of the leading shape
    that is false where there is no map; ``compute`` returns the mean over maps, NaN before the first or after an
    impossible one. Without smoothing it is infinite where a model gives nothing to a place that people looked at; the
    Jensen-Shannon divergence is bounded by ln 2.

    Args:
        divergence: ``"kl"``, of people's map from the model's, or ``"jensen_shannon"``.
        smoothing: the share of a uniform map mixed into the model's, in [0, 1].
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if the divergence is another or ``smoothing`` is outside [0, 1]; on update, if the shapes differ.

    Source:
        "Intensive Intelligence: Mathematical Foundations", perspectival knowing; Lin 1991 for Jensen-Shannon.

    Example:
        >>> from intensive_callbacks import SalienceDivergence
        >>> divergence = SalienceDivergence()
        >>> divergence.update(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
        >>> divergence.compute()
        tensor(0.1840, dtype=torch.float64)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    undefined = "there was no map, or one with a negative value or without a positive one"
    divergence_sum: Tensor
    num_maps: Tensor

    def __init__(self, *, divergence: Divergence = "kl", smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        relevance.salience_divergence(torch.ones(1), torch.ones(1), divergence=divergence, smoothing=smoothing)
        self.divergence: Divergence = divergence
        self.smoothing = smoothing
        self.add_sum("divergence_sum")
        self.add_sum("num_maps", (), torch.int64)

    def update(self, human: Tensor, model: Tensor, mask: Tensor | None = None) -> None:
        """Add the divergences of one batch of maps."""
        values = relevance.salience_divergence(
            human, model.detach(), divergence=self.divergence, smoothing=self.smoothing
        )
        kept = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
        if kept.shape != values.shape:
            raise ValueError(f"mask must be {tuple(values.shape)}, got {tuple(kept.shape)}")
        self.divergence_sum += torch.where(kept, values, 0).sum()
        self.num_maps += kept.sum()

    def compute(self) -> Tensor:
        """The mean over all maps."""
        return self.divergence_sum / self.num_maps


class TaskInformation(IntensiveMetric):
    r"""Usable information that predictions hold of a task, in bits per example (and per dimension).

    .. math:: I_V = H(Y) - \mathrm{CE}(Y \mid X)

    ``update(logits, target)`` takes ``[..., K]`` and integers ``[...]``, negative where there is no label; ``compute``
    returns bits, NaN before the first example: H(Y) for perfect predictions, H(Y) - log2 K for uniform ones, below 0
    where the model is worse than the label frequencies. Feed it held-out examples: on training examples it counts what
    was learned by heart.

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
        tensor(0.0156, dtype=torch.float64)
    """

    higher_is_better = True
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
        counts, cross_entropy = relevance.task_sums(logits.detach(), target)
        self.label_counts += counts
        self.cross_entropy += cross_entropy

    def compute(self) -> Tensor:
        """The usable information of all predictions."""
        return relevance.task_information_from_sums(self.label_counts, self.cross_entropy, self.num_dimensions)


class InformationBottleneck(IntensiveMetric):
    r"""The information bottleneck's objective for a discrete representation, in bits; lower is better.

    .. math:: I(X;T) - \beta I(T;Y)

    ``update(x, codes, y)`` takes integers of one shape, each in [-1, its size), -1 for none; ``compute`` returns bits,
    NaN before the first observation; ``plane`` both terms. For discrete representations only: of a deterministic
    network with continuous input and output I(X;T) is infinite, and codes that are not integers are refused.

    Args:
        num_x: the number of inputs (their identities or classes).
        num_codes: the number of values of T.
        num_y: the number of targets.
        beta: the price of relevance, not negative.
        correction: ``"adjusted"``, ``"miller_madow"`` or ``"none"``: see ``discrete_mutual_information``. Where every
            input is seen once use ``"none"``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a size is below 1 or ``beta`` is negative; on update, if the labels are no integers of one shape;
            on compute, if one lay outside its range.

    Source:
        Tishby, Pereira and Bialek 1999, arXiv:physics/0004057.

    Example:
        >>> from intensive_callbacks import InformationBottleneck
        >>> bottleneck = InformationBottleneck(num_x=4, num_codes=2, num_y=2, beta=2.0)
        >>> x = torch.arange(400) % 4
        >>> bottleneck.update(x, x // 2, x // 2)
        >>> bottleneck.compute()
        tensor(-1., dtype=torch.float64)
    """

    higher_is_better = False
    undefined = "nothing has been counted, or every value was seen only once"
    input_counts: Tensor
    target_counts: Tensor
    num_outside: Tensor

    def __init__(
        self,
        num_x: int,
        num_codes: int,
        num_y: int,
        beta: float,
        *,
        correction: Correction = "adjusted",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(num_x, num_codes, num_y) < 1:
            raise ValueError(f"a variable has at least 1 value, got sizes {(num_x, num_codes, num_y)}")
        self.beta = beta
        self.correction: Correction = correction
        self.add_sum("input_counts", (num_x, num_codes), torch.int64)
        self.add_sum("target_counts", (num_codes, num_y), torch.int64)
        self.add_sum("num_outside", (), torch.int64)
        relevance.information_bottleneck(self.input_counts, self.target_counts, beta, correction=correction)

    def update(self, x: Tensor, codes: Tensor, y: Tensor) -> None:
        """Count one batch."""
        if codes.is_floating_point():
            raise ValueError(
                "codes must be integers: of a deterministic representation that is continuous I(X;T) is infinite; "
                "quantise it, or use gaussian_information_bottleneck for one with declared Gaussian noise"
            )
        for name, labels in (("input_counts", (x, codes)), ("target_counts", (codes, y))):
            state = getattr(self, name)
            counts, num_outside = information.contingency_table(labels, tuple(state.shape))
            state += counts
            self.num_outside += num_outside

    @companion
    def plane(self) -> relevance.InformationPlane:
        """I(X;T) and I(T;Y), in bits."""
        return self._plane()

    def _plane(self) -> relevance.InformationPlane:
        if self.num_outside > 0:
            raise ValueError(f"labels must lie in [-1, size), -1 for none; {int(self.num_outside)} lay outside")
        return relevance.InformationPlane(
            information.discrete_mutual_information(self.input_counts, correction=self.correction),
            information.discrete_mutual_information(self.target_counts, correction=self.correction),
        )

    def compute(self) -> Tensor:
        """The objective over all observations."""
        plane = self._plane()
        return plane.input_information - self.beta * plane.target_information
