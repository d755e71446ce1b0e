"""Whether everything that the routers of a model decided was counted, as a metric."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import routing_coverage_compute, routing_coverage_update
from intensive_callbacks.metrics.routing_selections import RoutingMetric

__all__ = ["RoutingCoverage"]


class RoutingCoverage(RoutingMetric):
    """Coverage: the selections that were counted, received and dropped, over those that were to be made.

    ``update(expert_ids, mask=None, num_entered=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is a dropped
    selection, ``[T]`` booleans that are false on padding, and the number of tokens that entered the layer, by default
    those of the ids; ``compute`` returns 1 where every token that entered has its k selections, less where some were
    not seen, more where some were counted twice, and NaN where no token entered or k is not constant.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit.

    Example:
        >>> from intensive_callbacks import RoutingCoverage
        >>> metric = RoutingCoverage(num_experts=4)
        >>> metric.update(torch.tensor([[0, 1], [1, -1]]), num_entered=4)
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = None
    undefined = "no token was routed, or the number of experts per token is not constant"
    load: Tensor
    num_dropped: Tensor
    num_expected: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_load()
        self.add_sum("num_dropped", dtype=torch.int64)
        self.add_sum("num_expected", dtype=torch.int64)

    def update(self, expert_ids: Tensor, mask: Tensor | None = None, num_entered: int | None = None) -> None:
        """Count the selections of one batch beside those that were to be made."""
        load, dropped, expected, invalid = routing_coverage_update(expert_ids, self.num_experts, mask, num_entered)
        self.load += load
        self.num_dropped += dropped
        self.num_expected += expected
        self.num_invalid += invalid

    def compute(self) -> Tensor:
        """Counted over expected."""
        return self.unless_invalid(routing_coverage_compute(self.load, self.num_dropped, self.num_expected))
