"""What routers decide, from the sums over tokens that :class:`RoutingStatistics` keeps: ``[..., E]`` gives ``[...]``.

Leading dimensions are layers, or whatever else the sums were kept for. Throughout, c_e is the number of selections of
expert e, f_e = c_e / sum(c), p_te the router's probability of expert e for token t, and P_e its mean over tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_float64

__all__ = [
    "conditional_routing_entropy",
    "dead_experts",
    "drop_rate",
    "effective_experts",
    "expert_coactivation",
    "expert_specialization",
    "load_variation",
    "max_violation",
    "router_margin",
    "router_saturation",
    "router_z",
    "routing_confidence",
    "switch_balance",
]


def _share(load: Tensor) -> Tensor:
    load = as_float64(load)
    return load / load.sum(-1, keepdim=True)


def max_violation(load: Tensor) -> Tensor:
    """Maximal violation of a balanced load (MaxVio), max c / mean c - 1.

    Args:
        load: selections per expert, ``[..., E]``.

    Returns:
        ``[...]``, a plain number in [0, E - 1]; NaN with nothing routed.

    Source:
        Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", arXiv 2408.15664.

    Example:
        >>> max_violation(torch.tensor([[6, 2, 2, 2], [3, 3, 3, 3]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    return _share(load).amax(-1) * load.shape[-1] - 1


def load_variation(load: Tensor) -> Tensor:
    """Squared coefficient of variation of the load, Var(c) / mean(c)^2, over all experts.

    Args:
        load: selections per expert, or the importance of experts (sums of their weights), ``[..., E]``.

    Returns:
        ``[...]``, a plain number in [0, E - 1]; NaN with nothing routed.

    Source:
        Shazeer et al., "Outrageously Large Neural Networks", arXiv 1701.06538, section 4.

    Example:
        >>> load_variation(torch.tensor([4, 0]))
        tensor(1., dtype=torch.float64)
    """
    return (_share(load) * load.shape[-1]).var(-1, correction=0)


def dead_experts(load: Tensor) -> Tensor:
    """Share of experts that received nothing; judge it over a window of many more than E / k tokens.

    Args:
        load: selections per expert, ``[..., E]``.

    Returns:
        ``[...]``, a fraction in [0, 1 - 1/E]; NaN with nothing routed.

    Example:
        >>> dead_experts(torch.tensor([9, 0, 3, 0]))
        tensor(0.5000, dtype=torch.float64)
    """
    share = _share(load)
    return torch.where(share.isnan(), share, (share == 0).to(share.dtype)).mean(-1)


def effective_experts(load: Tensor) -> Tensor:
    """Effective number of experts: that of equally used ones with the same entropy, exp(H(f)).

    Args:
        load: selections per expert, ``[..., E]``.

    Returns:
        ``[...]``, in [1, E]; NaN with nothing routed.

    Example:
        >>> effective_experts(torch.tensor([5, 5, 0, 0]))
        tensor(2., dtype=torch.float64)
    """
    entropy: Tensor = torch.special.entr(_share(load)).sum(-1)
    return entropy.exp()


def conditional_routing_entropy(entropy: Tensor, num_probabilities: Tensor, num_experts: int) -> Tensor:
    r"""Conditional entropy of the router: how undecided it is about one token, over the most it could be.

    .. math:: H(E | t) = \frac{1}{T \ln E} \sum_t H(p_t)

    Args:
        entropy: sum over tokens of H(p_t), in nats, ``[...]``.
        num_probabilities: tokens in that sum, ``[...]``.
        num_experts: E.

    Returns:
        ``[...]``, a fraction in [0, 1]; NaN with no token or one expert.

    Example:
        >>> conditional_routing_entropy(torch.tensor(0.6931 * 100), torch.tensor(100), num_experts=4)
        tensor(0.5000, dtype=torch.float64)
    """
    return as_float64(entropy) / num_probabilities / (math.log(num_experts) if num_experts > 1 else math.nan)


def expert_specialization(probability: Tensor, entropy: Tensor, num_probabilities: Tensor) -> Tensor:
    r"""Specialisation: the information that a token has about its expert, H(P) - mean H(p_t).

    0 where all tokens are routed alike, however evenly the experts are used; log2 E where every token has one expert
    and all experts are used equally.

    Args:
        probability: sum over tokens of p_t, ``[..., E]``.
        entropy: sum over tokens of H(p_t), in nats, ``[...]``.
        num_probabilities: tokens in those sums, ``[...]``.

    Returns:
        ``[...]``, in bits, in [0, log2 E]; NaN with no token.

    Source:
        "Intensive Intelligence: Measurement Frameworks", made operational as a mutual information.

    Example:
        >>> expert_specialization(torch.tensor([5.0, 5.0]), torch.tensor(0.0), torch.tensor(10))
        tensor(1., dtype=torch.float64)
    """
    marginal: Tensor = torch.special.entr(_share(probability)).sum(-1)
    return (marginal - as_float64(entropy) / num_probabilities) / math.log(2)


def switch_balance(load: Tensor, probability: Tensor) -> Tensor:
    r"""Balance of load and probability, E · sum f_e P_e: the Switch Transformer's auxiliary loss without its factor.

    Args:
        load: selections per expert, ``[..., E]``.
        probability: sum over tokens of p_t, ``[..., E]``.

    Returns:
        ``[...]``, a plain number in [0, E]; 1 when balanced; NaN with nothing routed.

    Source:
        Fedus et al., "Switch Transformers", arXiv 2101.03961, equation 4.

    Example:
        >>> switch_balance(torch.tensor([10, 0]), torch.tensor([8.0, 2.0]))
        tensor(1.6000, dtype=torch.float64)
    """
    return (_share(load) * _share(probability)).sum(-1) * load.shape[-1]


def router_z(z: Tensor, num_logits: Tensor) -> Tensor:
    r"""Router z: the mean over tokens of the squared log-partition, logsumexp(logits)^2.

    Args:
        z: sum over tokens of logsumexp^2, ``[...]``.
        num_logits: tokens in that sum, ``[...]``.

    Returns:
        ``[...]``, in nats^2, at least 0; NaN with no token.

    Source:
        Zoph et al., "ST-MoE", arXiv 2202.08906, equation 5.

    Example:
        >>> router_z(torch.tensor(18.0), torch.tensor(2))
        tensor(9., dtype=torch.float64)
    """
    return as_float64(z) / num_logits


def routing_confidence(confidence: Tensor, num_selected: Tensor) -> Tensor:
    """Confidence: the mean over tokens of the probability mass of the selected experts.

    Args:
        confidence: sum over tokens of the selected p_te, ``[...]``.
        num_selected: tokens in that sum, ``[...]``.

    Returns:
        ``[...]``, a fraction in [0, 1]; NaN with no token.

    Example:
        >>> routing_confidence(torch.tensor(6.0), torch.tensor(8))
        tensor(0.7500, dtype=torch.float64)
    """
    return as_float64(confidence) / num_selected


def router_margin(margin: Tensor, num_probabilities: Tensor) -> Tensor:
    """Margin: the mean over tokens of the greatest probability less the second greatest.

    Args:
        margin: sum over tokens of that difference, ``[...]``.
        num_probabilities: tokens in that sum, ``[...]``.

    Returns:
        ``[...]``, a fraction in [0, 1]; NaN with no token.

    Example:
        >>> router_margin(torch.tensor(2.0), torch.tensor(8))
        tensor(0.2500, dtype=torch.float64)
    """
    return as_float64(margin) / num_probabilities


def drop_rate(num_dropped: Tensor, load: Tensor) -> Tensor:
    """Share of the selections that no expert received, where its capacity is finite.

    Args:
        num_dropped: selections that were dropped, ``[...]``.
        load: selections that were received, per expert, ``[..., E]``.

    Returns:
        ``[...]``, a fraction in [0, 1]; NaN with nothing selected.

    Example:
        >>> drop_rate(torch.tensor(2), torch.tensor([3, 5]))
        tensor(0.2000, dtype=torch.float64)
    """
    dropped = as_float64(num_dropped)
    return dropped / (dropped + load.sum(-1))


def router_saturation(expert_ids: Tensor, reference_ids: Tensor) -> Tensor:
    """Router saturation: the share of a token's experts that a reference checkpoint selects for it, too.

    Args:
        expert_ids: the selected experts, ``[..., T, k]`` distinct integers per token; -1 is an unused slot.
        reference_ids: those of the reference, for the same tokens, ``[..., T, k]``.

    Returns:
        ``[...]``, the mean over tokens of ``|S and S'| / k``, in [0, 1]; NaN with no token.

    Raises:
        ValueError: if the two differ in the number of tokens.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060, section 5.1.

    Example:
        >>> router_saturation(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 0], [2, 5]]))
        tensor(0.7500, dtype=torch.float64)
    """
    if expert_ids.shape[:-1] != reference_ids.shape[:-1]:
        raise ValueError(
            f"expert_ids and reference_ids must be of the same tokens, got {tuple(expert_ids.shape)} and "
            f"{tuple(reference_ids.shape)}"
        )
    same = (expert_ids.unsqueeze(-1) == reference_ids.unsqueeze(-2)) & (expert_ids >= 0).unsqueeze(-1)
    return as_float64(same.any(-1)).mean((-1, -2))


def expert_coactivation(pairs: Tensor) -> Tensor:
    """Co-activation: of the tokens of expert i, the share that expert j received as well, N_ij / N_i.

    Args:
        pairs: N_ij, tokens for which i and j were both selected, ``[..., E, E]``, with N_i on the diagonal.

    Returns:
        ``[..., E, E]``, fractions in [0, 1]; 1 on the diagonal; NaN in the row of an expert that received nothing.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060, section 5.2, over all pairs of a token's experts.

    Example:
        >>> expert_coactivation(torch.tensor([[4, 1], [1, 2]]))
        tensor([[1.0000, 0.2500],
                [0.5000, 1.0000]], dtype=torch.float64)
    """
    pairs = as_float64(pairs)
    return pairs / pairs.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
