"""What routers score, per token and as quantities. ``functional/routing_selections.py`` has those of selections.

Each quantity has three functions. ``<quantity>_update(raw data)`` sums over the tokens of one batch,
``<quantity>_compute(sums)`` forms the value of sums ``[..., E]`` and ``[...]``, whose leading dimensions are layers,
and ``<quantity>(raw data)`` does both. The sums are named as those of :class:`RoutingStatistics`.

Throughout, f_e is the share of the selections that expert e got, p_te the router's probability of expert e for token t,
and P_e its mean over tokens. Rows of probabilities are at least 0 and sum to 1. What is formed of any other row is NaN:
to raise an error, an update would have to wait for the device, so it counts such rows instead.

The ``token_`` functions give one number per token. They never wait for the device, compile to one graph, and return
float32 for float32 and half precision.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64, require_broadcast, require_one_shape, require_token_mask
from intensive_callbacks.functional.routing_selections import expert_load, selection_counts, share
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import masked_sum, num_tokens, unless_invalid

__all__ = [
    "conditional_routing_entropy",
    "conditional_routing_entropy_compute",
    "conditional_routing_entropy_update",
    "expert_load",
    "expert_specialization",
    "expert_specialization_compute",
    "expert_specialization_update",
    "router_margin",
    "router_margin_compute",
    "router_margin_update",
    "router_z",
    "router_z_compute",
    "router_z_update",
    "routing_confidence",
    "routing_confidence_compute",
    "routing_confidence_update",
    "switch_balance",
    "switch_balance_compute",
    "switch_balance_update",
    "token_confidence",
    "token_entropy",
    "token_log_partition",
    "token_margin",
]

# How far from 1 a row of probabilities may sum: rounding to bfloat16 leaves up to 0.004.
PROBABILITY_TOLERANCE = 1e-2


@checked
def token_log_partition(logits: Tensor) -> Tensor:
    """The log-partition ln sum exp(logits) of each token, ``[..., E]`` to ``[...]``, in nats.

    Example:
        >>> token_log_partition(torch.zeros(1, 4))
        tensor([1.3863])
    """
    return _widened(logits).logsumexp(-1)


@checked
def token_entropy(probabilities: Tensor) -> Tensor:
    """The entropy H(p) of each token, ``[..., E]`` to ``[...]``, in nats.

    Example:
        >>> token_entropy(torch.tensor([[0.5, 0.5, 0.0]]))
        tensor([0.6931])
    """
    entropy: Tensor = torch.special.entr(_widened(probabilities)).sum(-1)
    return entropy


@checked
def token_margin(probabilities: Tensor) -> Tensor:
    """The greatest less the second greatest probability of each token, ``[..., E]`` to ``[...]``; E is at least 2.

    Example:
        >>> token_margin(torch.tensor([[0.75, 0.25, 0.0]]))
        tensor([0.5000])
    """
    if probabilities.dim() == 0 or probabilities.shape[-1] < 2:
        raise ValueError(f"probabilities must be [..., E] with E of at least 2, got {tuple(probabilities.shape)}")
    greatest = _widened(probabilities).topk(2).values
    return greatest[..., 0] - greatest[..., 1]


@checked
def token_confidence(probabilities: Tensor, expert_ids: Tensor) -> Tensor:
    """The probability mass of the experts that each token selects, ``[..., E]`` and ``[..., k]`` to ``[...]``.

    Example:
        >>> token_confidence(torch.tensor([[0.75, 0.25, 0.0]]), torch.tensor([[1, -1]]))
        tensor([0.2500])
    """
    if (
        probabilities.shape[-1:] in {(), (0,)}
        or expert_ids.dim() == 0
        or probabilities.shape[:-1] != expert_ids.shape[:-1]
    ):
        raise ValueError(
            "probabilities and expert_ids must be [..., E] and [..., k] of the same tokens, "
            f"got {tuple(probabilities.shape)} and {tuple(expert_ids.shape)}"
        )
    # An id past the last expert would be an error on a CPU and end the process on a GPU.
    slots = expert_ids.to(torch.int64).clamp(0, probabilities.shape[-1] - 1)
    return _widened(probabilities).gather(-1, slots).masked_fill(expert_ids < 0, 0).sum(-1)


def _widened(scores: Tensor) -> Tensor:
    return scores if scores.dtype in (torch.float32, torch.float64) else scores.float()


@checked
def conditional_routing_entropy(probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Conditional entropy of the router: how undecided it is about one token, over the most it could be.

    .. math:: H(E | t) = \frac{1}{T \ln E} \sum_t H(p_t)

    Args:
        probabilities: ``[T, E]``, rows that sum to 1.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A fraction in [0, 1]; NaN with no token, one expert, or a row that is no probabilities.

    Raises:
        ValueError: if the probabilities are not ``[T, E]`` or the mask does not fit them.

    Example:
        >>> conditional_routing_entropy(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
        tensor(0.5000, dtype=torch.float64)
    """
    entropy, num_probabilities, num_invalid = conditional_routing_entropy_update(probabilities, mask)
    value = conditional_routing_entropy_compute(entropy, num_probabilities, probabilities.shape[-1])
    return unless_invalid(value, num_invalid)


@checked
def conditional_routing_entropy_update(
    probabilities: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of H(p_t) in nats, the tokens in it, and the rows that are no probabilities.

    Example:
        >>> conditional_routing_entropy_update(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        (tensor(0.6931, dtype=torch.float64), tensor(2), tensor(0))
    """
    scores = _scores("probabilities", probabilities, mask)
    return masked_sum(token_entropy(scores), mask), num_tokens(scores, mask), _num_improbable(scores, mask)


@checked
def conditional_routing_entropy_compute(entropy: Tensor, num_probabilities: Tensor, num_experts: int) -> Tensor:
    """The mean of H(p_t) over ln E, of sums ``[...]``; see :func:`conditional_routing_entropy`.

    Example:
        >>> conditional_routing_entropy_compute(torch.tensor(0.6931 * 100), torch.tensor(100), num_experts=4)
        tensor(0.5000, dtype=torch.float64)
    """
    require_broadcast(entropy=entropy, num_probabilities=num_probabilities)
    return as_float64(entropy) / num_probabilities / (math.log(num_experts) if num_experts > 1 else math.nan)


@checked
def expert_specialization(probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Specialization: the information that a token has about its expert, H(P) - mean H(p_t).

    0 where all tokens are routed alike, however evenly the experts are used; log2 E where every token has one expert
    and all experts are used equally.

    Args:
        probabilities: ``[T, E]``, rows that sum to 1.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number of bits in [0, log2 E]; NaN with no token or a row that is no probabilities.

    Raises:
        ValueError: if the probabilities are not ``[T, E]`` or the mask does not fit them.

    Source:
        "Intensive Intelligence: Measurement Frameworks", made operational as a mutual information.

    Example:
        >>> expert_specialization(torch.eye(4))
        tensor(2., dtype=torch.float64)
    """
    *sums, num_invalid = expert_specialization_update(probabilities, mask)
    return unless_invalid(expert_specialization_compute(*sums), num_invalid)


@checked
def expert_specialization_update(
    probabilities: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sums of p_t ``[E]`` and of H(p_t) in nats, the tokens in them, and the rows that are no probabilities.

    Example:
        >>> expert_specialization_update(torch.eye(2))[0]
        tensor([1., 1.], dtype=torch.float64)
    """
    scores = _scores("probabilities", probabilities, mask)
    return masked_sum(scores, mask), *conditional_routing_entropy_update(probabilities, mask)


@checked
def expert_specialization_compute(probability: Tensor, entropy: Tensor, num_probabilities: Tensor) -> Tensor:
    """H(P) - mean H(p_t) in bits, of sums ``[..., E]`` and ``[...]``; see :func:`expert_specialization`.

    Example:
        >>> expert_specialization_compute(torch.tensor([5.0, 5.0]), torch.tensor(0.0), torch.tensor(10))
        tensor(1., dtype=torch.float64)
    """
    marginal: Tensor = torch.special.entr(share(probability, "probability")).sum(-1)
    require_broadcast(probability=marginal, entropy=entropy, num_probabilities=num_probabilities)
    return (marginal - as_float64(entropy) / num_probabilities) / math.log(2)


@checked
def router_margin(probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    """Margin: the mean over tokens of the greatest probability less the second greatest.

    Args:
        probabilities: ``[T, E]``, rows that sum to 1, E at least 2.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A fraction in [0, 1]; NaN with no token or a row that is no probabilities.

    Raises:
        ValueError: if the probabilities are not ``[T, E]`` or the mask does not fit them.

    Example:
        >>> router_margin(torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.5, 0.25]]))
        tensor(0.3750, dtype=torch.float64)
    """
    *sums, num_invalid = router_margin_update(probabilities, mask)
    return unless_invalid(router_margin_compute(*sums), num_invalid)


@checked
def router_margin_update(probabilities: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the margins, the tokens in it, and the rows that are no probabilities.

    Example:
        >>> router_margin_update(torch.tensor([[0.75, 0.25, 0.0]]))
        (tensor(0.5000, dtype=torch.float64), tensor(1), tensor(0))
    """
    scores = _scores("probabilities", probabilities, mask)
    return masked_sum(token_margin(scores), mask), num_tokens(scores, mask), _num_improbable(scores, mask)


@checked
def router_margin_compute(margin: Tensor, num_probabilities: Tensor) -> Tensor:
    """The mean margin, of sums ``[...]``; see :func:`router_margin`.

    Example:
        >>> router_margin_compute(torch.tensor(2.0), torch.tensor(8))
        tensor(0.2500, dtype=torch.float64)
    """
    require_broadcast(margin=margin, num_probabilities=num_probabilities)
    return as_float64(margin) / num_probabilities


@checked
def router_z(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Router z: the mean over tokens of the squared log-partition, logsumexp(logits)^2.

    Args:
        logits: ``[T, E]``, as the router makes them.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number of nats^2, at least 0; NaN with no token.

    Raises:
        ValueError: if the logits are not ``[T, E]`` or the mask does not fit them.

    Source:
        Zoph et al., "ST-MoE", arXiv 2202.08906, equation 5.

    Example:
        >>> router_z(torch.zeros(3, 4))  # (ln 4)^2
        tensor(1.9218, dtype=torch.float64)
    """
    return router_z_compute(*router_z_update(logits, mask))


@checked
def router_z_update(logits: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sum of logsumexp(logits)^2 and the tokens in it.

    Example:
        >>> router_z_update(torch.zeros(2, 4))
        (tensor(3.8436, dtype=torch.float64), tensor(2))
    """
    scores = _scores("logits", logits, mask)
    return masked_sum(token_log_partition(scores).square(), mask), num_tokens(scores, mask)


@checked
def router_z_compute(z: Tensor, num_logits: Tensor) -> Tensor:
    """The mean of logsumexp(logits)^2, of sums ``[...]``; see :func:`router_z`.

    Example:
        >>> router_z_compute(torch.tensor(18.0), torch.tensor(2))
        tensor(9., dtype=torch.float64)
    """
    require_broadcast(z=z, num_logits=num_logits)
    return as_float64(z) / num_logits


@checked
def routing_confidence(expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    """Confidence: the mean over tokens of the probability mass of the selected experts.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        probabilities: ``[T, E]``, rows that sum to 1.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A fraction in [0, 1]; NaN with no token, an id outside [-1, E) or a row that is no probabilities.

    Raises:
        ValueError: if the ids are no integers, the probabilities are not ``[T, E]``, or the mask does not fit them.

    Example:
        >>> routing_confidence(torch.tensor([[0], [2]]), torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]))
        tensor(0.7500, dtype=torch.float64)
    """
    *sums, num_invalid = routing_confidence_update(expert_ids, probabilities, mask)
    return unless_invalid(routing_confidence_compute(*sums), num_invalid)


@checked
def routing_confidence_update(
    expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the selected mass, the tokens in it, and the ids and rows that are invalid.

    Example:
        >>> routing_confidence_update(torch.tensor([[0]]), torch.tensor([[0.5, 0.5]]))
        (tensor(0.5000, dtype=torch.float64), tensor(1), tensor(0))
    """
    scores = _scores("probabilities", probabilities, mask)
    num_wrong = selection_counts(expert_ids, scores.shape[-1], mask)[-1]
    mass = masked_sum(token_confidence(scores, expert_ids), mask)
    return mass, num_tokens(scores, mask), num_wrong + _num_improbable(scores, mask)


@checked
def routing_confidence_compute(confidence: Tensor, num_selected: Tensor) -> Tensor:
    """The mean selected mass, of sums ``[...]``; see :func:`routing_confidence`.

    Example:
        >>> routing_confidence_compute(torch.tensor(6.0), torch.tensor(8))
        tensor(0.7500, dtype=torch.float64)
    """
    require_broadcast(confidence=confidence, num_selected=num_selected)
    return as_float64(confidence) / num_selected


@checked
def switch_balance(expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Balance of load and probability, E · sum f_e P_e: the Switch Transformer's auxiliary loss without its factor.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        probabilities: ``[T, E]``, rows that sum to 1.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number in [0, E]; 1 when balanced; NaN with nothing routed, an id outside [-1, E) or a row that is no
        probabilities.

    Raises:
        ValueError: if the ids are no integers, the probabilities are not ``[T, E]``, or the mask does not fit them.

    Source:
        Fedus et al., "Switch Transformers", arXiv 2101.03961, equation 4.

    Example:
        >>> switch_balance(torch.tensor([[0], [0]]), torch.tensor([[0.75, 0.25], [1.0, 0.0]]))
        tensor(1.7500, dtype=torch.float64)
    """
    *sums, num_invalid = switch_balance_update(expert_ids, probabilities, mask)
    return unless_invalid(switch_balance_compute(*sums), num_invalid)


@checked
def switch_balance_update(
    expert_ids: Tensor, probabilities: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The load ``[E]``, the sum of p_t ``[E]``, and the ids and rows that are invalid.

    Example:
        >>> switch_balance_update(torch.tensor([[0]]), torch.tensor([[0.75, 0.25]]))
        (tensor([1, 0]), tensor([0.7500, 0.2500], dtype=torch.float64), tensor(0))
    """
    scores = _scores("probabilities", probabilities, mask)
    counts = selection_counts(expert_ids, scores.shape[-1], mask)
    return counts[1:-1], masked_sum(scores, mask), counts[-1] + _num_improbable(scores, mask)


@checked
def switch_balance_compute(load: Tensor, probability: Tensor) -> Tensor:
    """E · sum f_e P_e, of sums ``[..., E]``; see :func:`switch_balance`.

    Example:
        >>> switch_balance_compute(torch.tensor([10, 0]), torch.tensor([8.0, 2.0]))
        tensor(1.6000, dtype=torch.float64)
    """
    require_one_shape(("load", "probability"), load, probability)
    return (share(load) * share(probability, "probability")).sum(-1) * load.shape[-1]


def _scores(name: str, scores: Tensor, mask: Tensor | None) -> Tensor:
    """``[T, E]`` scores in float64, without their graph."""
    if scores.dim() != 2 or scores.shape[1] == 0:
        raise ValueError(f"{name} must be [T, E], one number per token and expert, got {list(scores.shape)}")
    require_token_mask(mask, name, scores)
    return as_float64(scores.detach())


def _num_improbable(scores: Tensor, mask: Tensor | None) -> Tensor:
    """How many rows are no probabilities: a negative number, one that is NaN, or a sum that is not 1."""
    probable = (scores >= 0).all(-1) & ((scores.sum(-1) - 1).abs() <= PROBABILITY_TOLERANCE)
    return masked_sum(~probable, mask)
