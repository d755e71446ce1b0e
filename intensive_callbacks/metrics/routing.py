"""What routers decide, as metrics: :mod:`intensive_callbacks.functional.routing` has the mathematics.

Their states are named as the sums of :class:`RoutingStatistics`, so that ``metric.merge_state(statistics.states())``
takes what a router's accumulator has; sums of several layers, ``[L, E]`` and ``[L]``, give ``compute`` a value ``[L]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import coupling, routing
from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.metrics.base import IntensiveMetric

__all__ = [
    "ConditionalRoutingEntropy",
    "DeadExperts",
    "DropRate",
    "EffectiveExperts",
    "ExpertCoactivation",
    "ExpertSpecialization",
    "LoadVariation",
    "MaxViolation",
    "RouterMargin",
    "RouterSaturation",
    "RouterZ",
    "RoutingConfidence",
    "SwitchBalance",
]


class _RoutingMetric(IntensiveMetric):
    """A quantity of the sums over tokens of one router, or of several with a leading dimension."""

    plot_lower_bound = 0.0
    load: Tensor
    probability: Tensor
    entropy: Tensor
    margin: Tensor
    num_probabilities: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        self.num_experts = num_experts

    def add_load(self) -> None:
        self.add_sum("load", (self.num_experts,), torch.int64)

    def count_load(self, expert_ids: Tensor, mask: Tensor | None) -> None:
        self.load += coupling.expert_load(expert_ids, self.num_experts, mask)

    def scores(self, scores: Tensor) -> Tensor:
        """``[T, E]`` scores in float64."""
        if scores.dim() != 2 or scores.shape[-1] != self.num_experts:
            raise ValueError(f"expected [T, {self.num_experts}], one score per expert, got {list(scores.shape)}")
        return as_float64(scores.detach())


def _total(values: Tensor, mask: Tensor | None) -> Tensor:
    """The sum over tokens of ``[T]`` or ``[T, E]``, less that of padding; it does not wait for the device."""
    if mask is not None:
        values = values.masked_fill(~mask.reshape(mask.shape + (1,) * (values.dim() - 1)), 0)
    return values.sum(0)


def _num_tokens(scores: Tensor, mask: Tensor | None) -> int | Tensor:
    return scores.shape[0] if mask is None else mask.sum()


class _LoadMetric(_RoutingMetric):
    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_load()

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections of one batch."""
        self.count_load(expert_ids, mask)


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
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """Max c / mean c - 1 of all selections counted."""
        return routing.max_violation(self.load)


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
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """Var / mean^2 of all selections counted."""
        return routing.load_variation(self.load)


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
        tensor(0.2500, dtype=torch.float64)
    """

    higher_is_better = False
    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The share of zero loads."""
        return routing.dead_experts(self.load)


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
        tensor(2., dtype=torch.float64)
    """

    higher_is_better = True
    plot_lower_bound = 1.0

    def compute(self) -> Tensor:
        """exp(H) of all selections counted."""
        return routing.effective_experts(self.load)


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
        tensor(0.2500, dtype=torch.float64)
    """

    higher_is_better = False
    plot_upper_bound = 1.0
    num_dropped: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("num_dropped", dtype=torch.int64)

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections of one batch, received and dropped."""
        super().update(expert_ids, mask)
        dropped = expert_ids < 0
        self.num_dropped += (dropped if mask is None else dropped & mask[:, None]).sum()

    def compute(self) -> Tensor:
        """Dropped over selected."""
        return routing.drop_rate(self.num_dropped, self.load)


class _EntropyMetric(_RoutingMetric):
    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("entropy")
        self.add_sum("num_probabilities", dtype=torch.int64)

    def update(self, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the entropies of one batch."""
        self.entropy += _total(torch.special.entr(self.scores(probabilities)).sum(-1), mask)
        self.num_probabilities += _num_tokens(probabilities, mask)


class ConditionalRoutingEntropy(_EntropyMetric):
    r"""Conditional entropy of the router, mean H(p_t) / ln E: how undecided it is about one token.

    ``update(probabilities, mask=None)`` takes ``[T, E]`` rows that sum to 1 and ``[T]`` booleans that are false on
    padding; ``compute`` returns a fraction in [0, 1], NaN with no token or one expert. A healthy mixture of experts
    shows a high load entropy and a low conditional entropy.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the probabilities are not ``[T, E]``.

    Example:
        >>> from intensive_callbacks import ConditionalRoutingEntropy
        >>> metric = ConditionalRoutingEntropy(num_experts=4)
        >>> metric.update(torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = None
    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The mean entropy over ln E."""
        return routing.conditional_routing_entropy(self.entropy, self.num_probabilities, self.num_experts)


class ExpertSpecialization(_EntropyMetric):
    r"""Specialisation: the information that a token has about its expert, H(P) - mean H(p_t), in bits.

    ``update(probabilities, mask=None)`` takes ``[T, E]`` rows that sum to 1 and ``[T]`` booleans that are false on
    padding; ``compute`` returns a scalar in [0, log2 E], NaN with no token.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the probabilities are not ``[T, E]``.

    Source:
        "Intensive Intelligence: Measurement Frameworks", made operational as a mutual information.

    Example:
        >>> from intensive_callbacks import ExpertSpecialization
        >>> metric = ExpertSpecialization(num_experts=4)
        >>> metric.update(torch.eye(4))
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("probability", (num_experts,))

    def update(self, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the probabilities and entropies of one batch."""
        super().update(probabilities, mask)
        self.probability += _total(self.scores(probabilities), mask)

    def compute(self) -> Tensor:
        """H(P) - mean H(p_t), in bits."""
        return routing.expert_specialization(self.probability, self.entropy, self.num_probabilities)


class RouterMargin(_RoutingMetric):
    """Margin: the mean over tokens of the greatest probability less the second greatest.

    ``update(probabilities, mask=None)`` takes ``[T, E]`` rows that sum to 1 and ``[T]`` booleans that are false on
    padding; ``compute`` returns a fraction in [0, 1], NaN with no token.

    Args:
        num_experts: E, at least 2.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 2; on update, if the probabilities are not ``[T, E]``.

    Example:
        >>> from intensive_callbacks import RouterMargin
        >>> metric = RouterMargin(num_experts=3)
        >>> metric.update(torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.5, 0.25]]))
        >>> metric.compute()
        tensor(0.3750, dtype=torch.float64)
    """

    higher_is_better = None
    plot_upper_bound = 1.0

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        if num_experts < 2:
            raise ValueError(f"num_experts must be at least 2 for a second greatest probability, got {num_experts}")
        super().__init__(num_experts, **kwargs)
        self.add_sum("margin")
        self.add_sum("num_probabilities", dtype=torch.int64)

    def update(self, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the margins of one batch."""
        greatest = self.scores(probabilities).topk(2).values
        self.margin += _total(greatest[:, 0] - greatest[:, 1], mask)
        self.num_probabilities += _num_tokens(probabilities, mask)

    def compute(self) -> Tensor:
        """The mean margin."""
        return routing.router_margin(self.margin, self.num_probabilities)


class RouterZ(_RoutingMetric):
    """Router z: the mean over tokens of the squared log-partition, logsumexp(logits)^2, in nats^2.

    ``update(logits, mask=None)`` takes ``[T, E]``, as the router makes them, and ``[T]`` booleans that are false on
    padding; ``compute`` returns a scalar of at least 0, NaN with no token.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the logits are not ``[T, E]``.

    Source:
        Zoph et al., "ST-MoE", arXiv 2202.08906.

    Example:
        >>> from intensive_callbacks import RouterZ
        >>> metric = RouterZ(num_experts=4)
        >>> metric.update(torch.zeros(3, 4))
        >>> metric.compute()  # (ln 4)^2
        tensor(1.9218, dtype=torch.float64)
    """

    higher_is_better = False
    z: Tensor
    num_logits: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("z")
        self.add_sum("num_logits", dtype=torch.int64)

    def update(self, logits: Tensor, mask: Tensor | None = None) -> None:
        """Add the squared log-partitions of one batch."""
        self.z += _total(self.scores(logits).logsumexp(-1).square(), mask)
        self.num_logits += _num_tokens(logits, mask)

    def compute(self) -> Tensor:
        """The mean of logsumexp^2."""
        return routing.router_z(self.z, self.num_logits)


class RoutingConfidence(_RoutingMetric):
    """Confidence: the mean over tokens of the probability mass of the selected experts.

    ``update(expert_ids, probabilities, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot,
    ``[T, E]`` rows that sum to 1 and ``[T]`` booleans that are false on padding; ``compute`` returns a fraction in
    [0, 1], NaN with no token.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the probabilities are not ``[T, E]``.

    Example:
        >>> from intensive_callbacks import RoutingConfidence
        >>> metric = RoutingConfidence(num_experts=3)
        >>> metric.update(torch.tensor([[0], [2]]), torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    higher_is_better = None
    plot_upper_bound = 1.0
    confidence: Tensor
    num_selected: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("confidence")
        self.add_sum("num_selected", dtype=torch.int64)

    def update(self, expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the selected mass of one batch."""
        chosen = self.scores(probabilities).gather(-1, expert_ids.clamp_min(0)).masked_fill(expert_ids < 0, 0)
        self.confidence += _total(chosen.sum(-1), mask)
        self.num_selected += _num_tokens(probabilities, mask)

    def compute(self) -> Tensor:
        """The mean selected mass."""
        return routing.routing_confidence(self.confidence, self.num_selected)


class SwitchBalance(_RoutingMetric):
    """Balance of load and probability, E · sum f_e P_e: 1 when balanced.

    ``update(expert_ids, probabilities, mask=None)`` takes integers in [-1, E), ``[T, k]``, where -1 is an unused slot,
    ``[T, E]`` rows that sum to 1 and ``[T]`` booleans that are false on padding; ``compute`` returns a scalar in
    [0, E], NaN with nothing routed.

    Args:
        num_experts: E.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_experts`` is below 1; on update, if the probabilities are not ``[T, E]``.

    Source:
        Fedus et al., "Switch Transformers", arXiv 2101.03961.

    Example:
        >>> from intensive_callbacks import SwitchBalance
        >>> metric = SwitchBalance(num_experts=2)
        >>> metric.update(torch.tensor([[0], [0]]), torch.tensor([[0.75, 0.25], [1.0, 0.0]]))
        >>> metric.compute()
        tensor(1.7500, dtype=torch.float64)
    """

    higher_is_better = False

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_load()
        self.add_sum("probability", (num_experts,))

    def update(self, expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections and add the probabilities of one batch."""
        self.count_load(expert_ids, mask)
        self.probability += _total(self.scores(probabilities), mask)

    def compute(self) -> Tensor:
        """E · sum f_e P_e."""
        return routing.switch_balance(self.load, self.probability)


class RouterSaturation(IntensiveMetric):
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
        tensor(0.7500, dtype=torch.float64)
    """

    higher_is_better = None
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    same: Tensor
    num_tokens: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("same")
        self.add_sum("num_tokens", dtype=torch.int64)

    def update(self, expert_ids: Tensor, reference_ids: Tensor, mask: Tensor | None = None) -> None:
        """Add the agreement of one batch."""
        each = routing.router_saturation(expert_ids.unsqueeze(-2), reference_ids.unsqueeze(-2))
        self.same += _total(each, mask)
        self.num_tokens += _num_tokens(expert_ids, mask)

    def compute(self) -> Tensor:
        """The mean over all tokens."""
        return self.same / self.num_tokens


class ExpertCoactivation(IntensiveMetric):
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
                [1.0000, 1.0000]], dtype=torch.float64)
    """

    higher_is_better = None
    pairs: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        self.num_experts = num_experts
        self.add_sum("pairs", (num_experts, num_experts))

    def update(self, expert_ids: Tensor, mask: Tensor | None = None) -> None:
        """Count the pairs of one batch."""
        # Column 0 takes the unused slots.
        shape = (expert_ids.shape[0], self.num_experts + 1)
        selected = torch.zeros(shape, dtype=self.pairs.dtype, device=expert_ids.device)
        selected = selected.scatter(1, expert_ids + 1, 1.0)[:, 1:]
        self.pairs += selected.T @ (selected if mask is None else selected * mask[:, None])

    def compute(self) -> Tensor:
        """N_ij / N_i."""
        return routing.expert_coactivation(self.pairs)
