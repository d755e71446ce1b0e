"""What the metric classes share: settings of torchmetrics, and the mean of an accuracy with its error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from intensive_callbacks.functional.checks import as_float64, as_fraction


class IntensiveMetric(Metric):
    """A metric whose states are sums, so that they add over batches, layers and processes."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        # A cached value would let one rank skip the collective that its peers wait in.
        super().__init__(**{"compute_with_cache": False, **kwargs})

    def add_sum(self, name: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> None:
        """A state that starts at zero and is summed across processes."""
        self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add other sums to these; a merge counts as an update."""
        super().merge_state(incoming_state)
        self._update_count += 1


class AccuracyMetric(IntensiveMetric):
    """A function of the mean accuracy.

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and how many examples it stands for: the mean is
    weighted by them, and where every update told them a standard error is known. Without it an update counts once.
    """

    higher_is_better = True
    correct: Tensor
    num_examples: Tensor
    num_uncounted: Tensor
    num_invalid: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("correct")
        self.add_sum("num_examples")
        self.add_sum("num_uncounted")
        self.add_sum("num_invalid")

    def update(self, accuracy: float | Tensor, num_examples: int | None = None) -> None:
        """Add an accuracy, weighted by the examples it stands for."""
        if num_examples is not None and num_examples < 0:
            raise ValueError(f"num_examples must not be negative, got {num_examples}")
        fraction = as_fraction("accuracy", accuracy).to(self.correct.device)
        weight = 1 if num_examples is None else num_examples
        if weight == 0:
            return
        self.correct += fraction * weight
        self.num_examples += weight
        self.num_uncounted += num_examples is None
        self.num_invalid += (fraction < 0) | (fraction > 1)

    def mean_accuracy(self) -> Tensor:
        """The weighted mean; NaN before the first update."""
        if self.num_invalid > 0:
            raise ValueError(
                f"accuracy must be a fraction in [0, 1]; {int(self.num_invalid)} of the tensors given lay outside"
            )
        return self.correct / self.num_examples

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """The quantity at the mean accuracy; NaN before the first update."""
        return self.value(self.mean_accuracy())

    def standard_error(self) -> Tensor:
        """Standard error of :meth:`compute`: the slope there times sqrt(a (1 - a) / n).

        The binomial error of an accuracy over n independent examples, carried on by the delta method. NaN where an
        update did not say how many examples it stood for.
        """
        accuracy = self.mean_accuracy()
        if self.num_uncounted > 0:
            return as_float64(torch.nan)
        slope: Tensor = torch.func.jacrev(self.value)(accuracy)
        return slope.abs() * (accuracy * (1 - accuracy) / self.num_examples).sqrt()
