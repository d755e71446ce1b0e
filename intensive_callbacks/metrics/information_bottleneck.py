"""The information bottleneck, as a metric: ``functional/information_bottleneck.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import information
from intensive_callbacks.functional.information import Correction
from intensive_callbacks.functional.information_bottleneck import (
    InformationPlane,
    information_bottleneck_compute,
    information_bottleneck_update,
)
from intensive_callbacks.metrics.base import IntensiveMetric, companion

__all__ = ["InformationBottleneck"]


class InformationBottleneck(IntensiveMetric):
    r"""The information bottleneck's objective for a discrete representation, in bits; lower is better.

    .. math:: I(X;T) - \beta I(T;Y)

    ``update(x, codes, y)`` takes integers of one shape, each in [-1, its size), -1 for none; ``compute`` returns bits,
    NaN before the first observation; ``plane`` both terms. For discrete representations only: of a deterministic
    network with continuous input and output I(X;T) is infinite, and codes that are not integers raise.

    Args:
        num_x: the number of inputs (their identities or classes).
        num_codes: the number of values of T.
        num_y: the number of targets.
        beta: the price of relevance, not negative.
        correction: ``"adjusted"``, ``"miller_madow"`` or ``"none"``: see ``mutual_information``. Where every
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
        tensor(-1.)
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
            raise ValueError(
                f"a variable has at least 1 value, got sizes {(num_x, num_codes, num_y)} of {self.size_names()}"
            )
        self.num_x, self.num_codes, self.num_y = num_x, num_codes, num_y
        self.beta = beta
        self.correction: Correction = correction
        self.add_sum("input_counts", (num_x, num_codes), torch.int64)
        self.add_sum("target_counts", (num_codes, num_y), torch.int64)
        self.add_sum("num_outside", (), torch.int64)
        information_bottleneck_compute(self.input_counts, self.target_counts, beta, correction=correction)

    def update(self, x: Tensor, codes: Tensor, y: Tensor) -> None:
        """Count one batch."""
        sizes = (self.num_x, self.num_codes, self.num_y)
        input_counts, target_counts, num_outside = information_bottleneck_update(x, codes, y, sizes)
        self.input_counts += input_counts
        self.target_counts += target_counts
        self.num_outside += num_outside

    @companion
    def plane(self) -> InformationPlane:
        """I(X;T) and I(T;Y), in bits."""
        return self._plane()

    def _plane(self) -> InformationPlane:
        if self.num_outside > 0:
            raise ValueError(f"x, codes and y must lie in [-1, size), -1 for none; {int(self.num_outside)} lay outside")
        return InformationPlane(
            information.discrete_mutual_information(self.input_counts, correction=self.correction),
            information.discrete_mutual_information(self.target_counts, correction=self.correction),
        )

    def compute(self) -> Tensor:
        """The objective over all observations."""
        plane = self._plane()
        return plane.input_information - self.beta * plane.target_information
