"""What routers score, as metrics: ``functional/routing.py`` has the mathematics.

Their states are named as the sums of :class:`RoutingStatistics`, so that ``metric.merge_state(statistics.states())``
takes what a router's accumulator has; sums of several layers, ``[L, E]`` and ``[L]``, give ``compute`` a value ``[L]``.
"""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import routing
from intensive_callbacks.metrics.routing_selections import RoutingMetric

__all__ = [
    "ConditionalRoutingEntropy",
    "ExpertSpecialization",
    "RouterMargin",
    "RouterZ",
    "RoutingConfidence",
    "SwitchBalance",
]

_NO_PROBABILITIES = "the rows of probabilities were negative or did not sum to 1; give softmax(logits), not the logits"

_NEITHER = f"{RoutingMetric.invalid}, or {_NO_PROBABILITIES}"


class _ProbabilityMetric(RoutingMetric):
    """A quantity of rows ``[T, E]``, one number per expert."""

    undefined = "no token was routed"
    invalid = _NO_PROBABILITIES

    def require_width(self, name: str, scores: Tensor) -> None:
        """Rows must have one number for each expert."""
        if scores.shape[-1:] != (self.num_experts,):
            raise ValueError(f"{name} must be [T, {self.num_experts}], one per expert, got {list(scores.shape)}")


class _EntropyMetric(_ProbabilityMetric):
    entropy: Tensor
    num_probabilities: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("entropy")
        self.add_sum("num_probabilities", dtype=torch.int64)


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
        tensor(0.5000)
    """

    higher_is_better = False
    plot_upper_bound = 1.0
    undefined = "no token was routed, or there is one expert"

    def update(self, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the entropies of one batch."""
        self.require_width("probabilities", probabilities)
        entropy, num_probabilities, num_invalid = routing.conditional_routing_entropy_update(probabilities, mask)
        self.entropy += entropy
        self.num_probabilities += num_probabilities
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """The mean entropy over ln E."""
        return self.unless_invalid(
            routing.conditional_routing_entropy_compute(self.entropy, self.num_probabilities, self.num_experts)
        )


class ExpertSpecialization(_EntropyMetric):
    r"""Specialization: the information that a token has about its expert, H(P) - mean H(p_t), in bits.

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
        tensor(2.)
    """

    higher_is_better = True
    probability: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("probability", (num_experts,))

    def update(self, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the probabilities and entropies of one batch."""
        self.require_width("probabilities", probabilities)
        probability, entropy, num_probabilities, num_invalid = routing.expert_specialization_update(probabilities, mask)
        self.probability += probability
        self.entropy += entropy
        self.num_probabilities += num_probabilities
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """H(P) - mean H(p_t), in bits."""
        return self.unless_invalid(
            routing.expert_specialization_compute(self.probability, self.entropy, self.num_probabilities)
        )


class RouterMargin(_ProbabilityMetric):
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
        tensor(0.3750)
    """

    higher_is_better = None
    plot_upper_bound = 1.0
    margin: Tensor
    num_probabilities: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        if num_experts < 2:
            raise ValueError(f"num_experts must be at least 2 for a second greatest probability, got {num_experts}")
        super().__init__(num_experts, **kwargs)
        self.add_sum("margin")
        self.add_sum("num_probabilities", dtype=torch.int64)

    def update(self, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the margins of one batch."""
        self.require_width("probabilities", probabilities)
        margin, num_probabilities, num_invalid = routing.router_margin_update(probabilities, mask)
        self.margin += margin
        self.num_probabilities += num_probabilities
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """The mean margin."""
        return self.unless_invalid(routing.router_margin_compute(self.margin, self.num_probabilities))


class RouterZ(_ProbabilityMetric):
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
        tensor(1.9218)
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
        self.require_width("logits", logits)
        z, num_logits = routing.router_z_update(logits, mask)
        self.z += z
        self.num_logits += num_logits

    def compute(self) -> Tensor:
        """The mean of logsumexp^2."""
        return routing.router_z_compute(self.z, self.num_logits)


class RoutingConfidence(_ProbabilityMetric):
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
        tensor(0.7500)
    """

    higher_is_better = None
    plot_upper_bound = 1.0
    invalid = _NEITHER
    confidence: Tensor
    num_selected: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        self.add_sum("confidence")
        self.add_sum("num_selected", dtype=torch.int64)

    def update(self, expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Add the selected mass of one batch."""
        self.require_width("probabilities", probabilities)
        confidence, num_selected, num_invalid = routing.routing_confidence_update(expert_ids, probabilities, mask)
        self.confidence += confidence
        self.num_selected += num_selected
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """The mean selected mass."""
        return self.unless_invalid(routing.routing_confidence_compute(self.confidence, self.num_selected))


class SwitchBalance(_ProbabilityMetric):
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
        tensor(1.7500)
    """

    higher_is_better = False
    undefined = "nothing was routed"
    invalid = _NEITHER
    scored_load: Tensor
    probability: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(num_experts, **kwargs)
        # Of the tokens whose probabilities are known: a router's load may be of more.
        self.add_sum("scored_load", (num_experts,), torch.int64)
        self.add_sum("probability", (num_experts,))

    def update(self, expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> None:
        """Count the selections and add the probabilities of one batch."""
        self.require_width("probabilities", probabilities)
        load, probability, num_invalid = routing.switch_balance_update(expert_ids, probabilities, mask)
        self.scored_load += load
        self.probability += probability
        self.num_invalid += num_invalid

    def compute(self) -> Tensor:
        """E · sum f_e P_e."""
        return self.unless_invalid(routing.switch_balance_compute(self.scored_load, self.probability))
