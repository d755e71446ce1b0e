"""What routers select, as metrics: ``functional/routing_selections.py`` has the mathematics.

Their states are named as the sums of :class:`RoutingStatistics`, so that ``metric.merge_state(statistics.states())``
takes what a router's accumulator has; sums of several layers, ``[L, E]`` and ``[L]``, give ``compute`` a value ``[L]``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import routing_selections
from intensive_callbacks.metrics.base import CheckedMetric, companion

__all__ = [
    "ConfigurationEntropyScore",
    "DeadExperts",
    "DropRate",
    "EffectiveExperts",
    "ExpertCoactivation",
    "LoadEntropy",
    "LoadVariation",
    "MaxViolation",
    "RouterSaturation",
]


class RoutingMetric(CheckedMetric):
    """A quantity of the sums over tokens of one router, or of several with a leading dimension."""

    plot_lower_bound = 0.0
    undefined = "nothing was routed"
    invalid = "expert_ids lay outside [-1, num_experts); -1 is an unused slot, and the first expert is 0"

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        self.num_experts = num_experts

    def add_load(self) -> None:
        """The state that counts the selections of each expert."""
        self.add_sum("load", (self.num_experts,), torch.int64)


class _LoadMetric(RoutingMetric):
    load: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_load()

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections of one batch."""
        counts = routing_selections.selection_counts(expert_ids, self.num_experts, mask)
        self.load += counts[1:-1]
        self.num_invalid += counts[-1]


class ConfigurationEntropyScore(_LoadMetric):
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
            outside [-1, E) makes the value NaN, with a warning: to raise, it would have to wait for the device.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 5, whose 0.3 to 0.7 as the best range contradicts load
        balancing, which aims at 1.

    Example:
        >>> from intensive_callbacks import ConfigurationEntropyScore
        >>> ces = ConfigurationEntropyScore(num_experts=4)
        >>> ces.update(torch.tensor([[0, 1], [2, 3], [0, -1]]))
        >>> ces.compute()
        tensor(0.9610)
    """

    higher_is_better: bool | None = None
    plot_upper_bound = 1.0
    undefined = "nothing was routed, or there is one expert"

    def __init__(self, num_experts: int, *, miller_madow: bool = False, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.miller_madow = miller_madow

    def compute(self) -> Tensor:
        """H(load) / ln E of all selections counted."""
        return self.unless_invalid(routing_selections.load_entropy(self.load, miller_madow=self.miller_madow))

    @companion
    def excess(self, num_selected: int) -> Tensor:
        """(H - ln k) / (ln E - ln k): 0 where every token selects the same k experts, 1 where the load is even."""
        excess = routing_selections.excess_load_entropy(self.load, num_selected, miller_madow=self.miller_madow)
        return self.unless_invalid(excess)


class LoadEntropy(ConfigurationEntropyScore):
    r"""Load entropy: the configuration entropy score as those read it who balance a load, for whom 1 is the aim.

    .. math:: H(f) / \ln E

    The source calls 0.3 to 0.7 best for its own score, which therefore has no direction. Arguments, ``update`` and
    ``compute`` are those of :class:`ConfigurationEntropyScore`.

    Example:
        >>> from intensive_callbacks.metrics import LoadEntropy
        >>> metric = LoadEntropy(num_experts=4)
        >>> metric.update(torch.tensor([[0, 1], [2, 3]]))
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = True


class MaxViolation(_LoadMetric):
    """Maximal violation of a balanced load (MaxVio), max c / mean c - 1.

    ``update(expert_ids, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot, and ``[T]``
    booleans that are false on padding; ``compute`` returns a scalar in [0, E - 1], NaN with nothing routed.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit.

    Source:
        Wang et al., arXiv 2408.15664.

    Example:
        >>> from intensive_callbacks import MaxViolation
        >>> metric = MaxViolation(num_experts=4)
        >>> metric.update(torch.tensor([[0, 1], [0, 2], [0, 3]]))
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """Max c / mean c - 1 of all selections counted."""
        return self.unless_invalid(routing_selections.max_violation_compute(self.load))


class LoadVariation(_LoadMetric):
    """Squared coefficient of variation of the load, Var(c) / mean(c)^2.

    ``update(expert_ids, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot, and ``[T]``
    booleans that are false on padding; ``compute`` returns a scalar in [0, E - 1], NaN with nothing routed.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit.

    Source:
        Shazeer et al., arXiv 1701.06538.

    Example:
        >>> from intensive_callbacks import LoadVariation
        >>> metric = LoadVariation(num_experts=2)
        >>> metric.update(torch.zeros(4, 1, dtype=torch.int64))
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """Var / mean^2 of all selections counted."""
        return self.unless_invalid(routing_selections.load_variation_compute(self.load))


class DeadExperts(_LoadMetric):
    """Share of experts that received nothing.

    ``update(expert_ids, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot, and ``[T]``
    booleans that are false on padding; ``compute`` returns a fraction in [0, 1 - 1/E], NaN with nothing routed.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit.

    Example:
        >>> from intensive_callbacks import DeadExperts
        >>> metric = DeadExperts(num_experts=4)
        >>> metric.update(torch.tensor([[0, 1], [0, 2]]))
        >>> metric.compute()
        tensor(0.2500)
    """

    higher_is_better = False
    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The share of zero loads."""
        return self.unless_invalid(routing_selections.dead_experts_compute(self.load))


class EffectiveExperts(_LoadMetric):
    """Effective number of experts, exp(H(f)).

    ``update(expert_ids, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot, and ``[T]``
    booleans that are false on padding; ``compute`` returns a scalar in [1, E], NaN with nothing routed.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit.

    Example:
        >>> from intensive_callbacks import EffectiveExperts
        >>> metric = EffectiveExperts(num_experts=4)
        >>> metric.update(torch.tensor([[0, 1], [1, 0]]))
        >>> metric.compute()
        tensor(2.)
    """

    higher_is_better = True
    plot_lower_bound = 1.0

    def compute(self) -> Tensor:
        """exp(H) of all selections counted."""
        return self.unless_invalid(routing_selections.effective_experts_compute(self.load))


class DropRate(_LoadMetric):
    """Share of the selections that no expert received, where its capacity is finite.

    ``update(expert_ids, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is a dropped selection, and
    ``[T]`` booleans that are false on padding; ``compute`` returns a fraction in [0, 1], NaN with nothing selected.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the ids are no integers or the mask does not fit.

    Example:
        >>> from intensive_callbacks import DropRate
        >>> metric = DropRate(num_experts=4)
        >>> metric.update(torch.tensor([[0, 1], [1, -1]]))
        >>> metric.compute()
        tensor(0.2500)
    """

    higher_is_better = False
    plot_upper_bound = 1.0
    num_dropped: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("num_dropped", dtype=torch.int64)

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections of one batch, received and dropped."""
        counts = routing_selections.selection_counts(expert_ids, self.num_experts, mask)
        self.num_dropped += counts[0]
        self.load += counts[1:-1]
        self.num_invalid += counts[-1]

    def compute(self) -> Tensor:
        """Dropped over selected."""
        return self.unless_invalid(routing_selections.drop_rate_compute(self.num_dropped, self.load))


class RouterSaturation(CheckedMetric):
    """Router saturation: the share of a token's experts that a reference checkpoint selects for it, too.

    ``update(expert_ids, reference_ids, mask=None)`` takes the experts that a model and a reference selected for the
    same tokens, ``[T, k]`` integers, where -1 is an unused slot, and ``[T]`` booleans that are false on padding;
    ``compute`` returns a fraction in [0, 1], NaN with no token.

    Args:
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: on update, if the two differ in the number of tokens.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060.

    Example:
        >>> from intensive_callbacks.metrics import RouterSaturation
        >>> metric = RouterSaturation()
        >>> metric.update(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 0], [2, 5]]))
        >>> metric.compute()
        tensor(0.7500)
    """

    higher_is_better = None
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    invalid = "expert_ids or reference_ids were below -1, which is an unused slot"
    same: Tensor
    num_tokens: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("same")
        self.add_sum("num_tokens", dtype=torch.int64)

    def update(self, expert_ids: Tensor, reference_ids: Tensor, mask: Tensor | None = None) -> None:
        """Add the agreement of one batch."""
        same, num_tokens, num_invalid = routing_selections.router_saturation_update(expert_ids, reference_ids, mask)
        self.same += same
        self.num_tokens += num_tokens
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """The mean over all tokens."""
        return self.unless_invalid(routing_selections.router_saturation_compute(self.same, self.num_tokens))


class ExpertCoactivation(RoutingMetric):
    """Co-activation: of the tokens of expert i, the share that expert j received as well, N_ij / N_i.

    ``update(expert_ids, mask=None)`` takes distinct integers per token in [-1, E), ``[T, k]``, where -1 is an unused
    slot, and ``[T]`` booleans that are false on padding; ``compute`` returns ``[E, E]`` fractions, NaN in the row of an
    expert that received nothing.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060, over all pairs of a token's experts.

    Example:
        >>> from intensive_callbacks.metrics import ExpertCoactivation
        >>> metric = ExpertCoactivation(num_experts=2)
        >>> metric.update(torch.tensor([[0, 1], [0, -1]]))
        >>> metric.compute()
        tensor([[1.0000, 0.5000],
                [1.0000, 1.0000]])
    """

    higher_is_better = None
    plot_upper_bound = 1.0
    undefined = "an expert received nothing"
    pairs: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("pairs", (num_experts, num_experts))

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the pairs of one batch."""
        pairs, num_invalid = routing_selections.expert_coactivation_update(expert_ids, self.num_experts, mask)
        self.pairs += pairs
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """N_ij / N_i."""
        return self.unless_invalid(routing_selections.expert_coactivation_compute(self.pairs))

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot the matrix, or the last one of a sequence, as an image; otherwise as every metric's ``plot``."""
        from matplotlib import pyplot as plt

        matrix = self.compute() if val is None else val if isinstance(val, Tensor) else val[-1]
        figure, axes = plt.subplots() if ax is None else (None, ax)
        axes.imshow(matrix.detach().cpu().numpy(), vmin=0.0, vmax=1.0)
        axes.set(title=type(self).__name__, xlabel="expert j", ylabel="expert i")
        return figure, axes
