"""How capacity is used, as metrics: :mod:`intensive_callbacks.functional.coupling` has the mathematics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import coupling
from intensive_callbacks.functional.checks import require_baseline
from intensive_callbacks.metrics.base import ActiveAccuracyMetric, IntensiveMetric, companion

__all__ = ["ConfigurationEntropyScore", "RelevanceRealizationRate"]


class RelevanceRealizationRate(ActiveAccuracyMetric):
    """Relevance realisation rate (R3): the active share of a model times its gain over chance.

    .. math:: R3 = (N_{active} / N_{total}) (a / r)

    ``update(accuracy, num_examples=None, active_params=None)`` takes a fraction in [0, 1], the examples it stands for
    and, where they were measured, the parameters that one token touched in them; ``compute`` returns a scalar in
    [0, 1/r], NaN before the first update.

    Args:
        total_params: every parameter once.
        active_params: parameters that one token touches by design; used where an update brings no measured ones.
        random_baseline: r, the accuracy of chance, in (0, 1).
        chance_corrected: use (a - r) / (1 - r) for the gain, which keeps the rate in [0, 1] above chance.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``total_params`` is not above 0, ``active_params`` is outside [0, ``total_params``] or
            ``random_baseline`` is outside (0, 1); on update, if an accuracy is a number outside [0, 1].

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 4.

    Example:
        >>> from intensive_callbacks import RelevanceRealizationRate
        >>> r3 = RelevanceRealizationRate(total_params=671e9, active_params=37e9, random_baseline=0.25)
        >>> r3.update(0.85)
        >>> r3.compute()
        tensor(0.1875, dtype=torch.float64)
    """

    plot_lower_bound = 0.0

    def __init__(
        self,
        total_params: float,
        active_params: float,
        random_baseline: float,
        *,
        chance_corrected: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(total_params, active_params, **kwargs)
        self.random_baseline = require_baseline(random_baseline)
        self.chance_corrected = chance_corrected

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return coupling.relevance_realization_rate(
            accuracy,
            self.total_params,
            self.mean_active_params(),
            self.random_baseline,
            chance_corrected=self.chance_corrected,
        )


class ConfigurationEntropyScore(IntensiveMetric):
    r"""Configuration entropy score (CES): how evenly the experts of a router are used.

    .. math:: CES = H(f) / \ln E, \quad f_e = c_e / \sum_i c_i

    ``update(expert_ids, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot, and ``[T]``
    booleans that are false on padding; it never waits for the device. ``compute`` returns a scalar in [0, 1], NaN with
    one expert or with nothing routed. ``merge_state`` also takes counts of several layers, ``{"load": [L, E]}``, and
    ``compute`` then returns ``[L]``.

    Args:
        num_experts: E.
        miller_madow: correct the entropy for what it lacks on average with few selections per expert.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit. An id
            outside [-1, E) makes the value NaN: to raise, it would have to wait for the device.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 5, whose 0.3 to 0.7 as the best range contradicts load
        balancing, which aims at 1.

    Example:
        >>> from intensive_callbacks import ConfigurationEntropyScore
        >>> ces = ConfigurationEntropyScore(num_experts=4)
        >>> ces.update(torch.tensor([[0, 1], [2, 3], [0, -1]]))
        >>> ces.compute()
        tensor(0.9610, dtype=torch.float64)
    """

    higher_is_better = None
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    undefined = "nothing was routed, there is one expert, or an expert id lay outside [-1, num_experts)"
    load: Tensor

    def __init__(self, num_experts: int, *, miller_madow: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        self.num_experts = num_experts
        self.miller_madow = miller_madow
        self.add_sum("load", (num_experts,), torch.int64)

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections of one batch."""
        self.load += coupling.expert_load(expert_ids, self.num_experts, mask)

    def compute(self) -> Tensor:
        """H(load) / ln E of all selections counted."""
        return coupling.load_entropy(self.load, miller_madow=self.miller_madow)

    @companion
    def excess(self, num_selected: int) -> Tensor:
        """(H - ln k) / (ln E - ln k): 0 where every token selects the same k experts, 1 where the load is even."""
        return coupling.excess_load_entropy(self.load, num_selected, miller_madow=self.miller_madow)
