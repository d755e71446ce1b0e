"""What more data brings, as a metric: :mod:`intensive_callbacks.functional.learning` has the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.functional import learning
from intensive_callbacks.functional.checks import as_fraction
from intensive_callbacks.metrics.base import SampleMetric, companion

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GeneralizationEfficiency"]


class GeneralizationEfficiency(SampleMetric):
    """Generalization efficiency (GE): what the second half of the training examples brought, in points per example.

    .. math:: GE = 100 (a_N - a_{N/2}) / (N / 2)

    ``update(num_examples, accuracy)`` takes how many training examples, each seen once, led to an accuracy; ``compute``
    returns a scalar, NaN where no size is at most half of the largest; ``learning_curve`` fits error = a n^-b + c to
    all pairs. It keeps the last ``num_samples`` pairs. During one run it may be fed while every example is new, which
    is to say within the first epoch: do not reset it between logging steps.

    Args:
        num_samples: pairs kept; 16 bytes each.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_samples`` is below 1; on update, if the shapes differ or an accuracy is a number outside
            [0, 1]; on compute, if one was a tensor outside.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 10.

    Example:
        >>> from intensive_callbacks import GeneralizationEfficiency
        >>> ge = GeneralizationEfficiency()
        >>> ge.update(500_000, 0.70)
        >>> ge.update(1_000_000, 0.85)
        >>> ge.compute()
        tensor(3.0000e-05, dtype=torch.float64)
    """

    higher_is_better = True
    undefined = "it needs accuracies at two sizes of the training data, one of them at most half of the other"

    def __init__(self, num_samples: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_samples(num_samples, width=2)

    def update(self, num_examples: float | Tensor, accuracy: float | Tensor) -> None:
        """Add the accuracy reached with so many examples, or ``[P]`` of each."""
        sizes = torch.as_tensor(num_examples, dtype=torch.float64, device=self.samples.device)
        fractions = as_fraction("accuracy", accuracy).to(self.samples)
        if sizes.shape != fractions.shape:
            raise ValueError(
                "num_examples and accuracy must be pairs, of the same shape, "
                f"got {tuple(sizes.shape)} and {tuple(fractions.shape)}"
            )
        self.keep(torch.stack([sizes.flatten(), fractions.flatten()], dim=-1))

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The sizes and accuracies kept."""
        sizes, fractions = self.kept().unbind(-1)
        if ((fractions < 0) | (fractions > 1)).any():
            raise ValueError("accuracy must be a fraction in [0, 1]; some of the tensors given lay outside")
        return sizes, fractions

    def compute(self) -> Tensor:
        """100 (a_N - a_{N/2}) / (N / 2) of the pairs kept."""
        return learning.generalization_efficiency(*self.pairs())

    @companion
    def learning_curve(self) -> learning.PowerLaw:
        """The power law of the error, with an interval for its exponent; needs four sizes over a decade."""
        return learning.learning_curve(*self.pairs())
