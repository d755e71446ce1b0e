"""What routers select: quantities of the expert ids alone. ``functional/routing.py`` has those of scores.

Each quantity has up to three functions. ``<quantity>_update(raw data)`` sums over the tokens of one batch,
``<quantity>_compute(sums)`` forms the value of sums ``[..., E]`` and ``[...]``, whose leading dimensions are layers,
and ``<quantity>(raw data)`` does both. The sums are named as those of :class:`RoutingStatistics`.

Throughout, c_e is the number of selections of expert e and f_e = c_e / sum(c). Expert ids are integers in [-1, E), and
-1 is an unused slot. What is formed of any other id is NaN: to raise an error, an update would have to wait for the
device, so it counts such ids instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import (
    as_float64,
    require_broadcast,
    require_cells,
    require_ids,
    require_layout,
    require_mask,
    require_square,
    require_token_mask,
)
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import masked_sum, num_tokens, unless_invalid

__all__ = [
    "configuration_entropy_score",
    "dead_experts",
    "dead_experts_compute",
    "drop_rate",
    "drop_rate_compute",
    "effective_experts",
    "effective_experts_compute",
    "excess_load_entropy",
    "expert_coactivation",
    "expert_coactivation_compute",
    "expert_coactivation_update",
    "expert_load",
    "load_entropy",
    "load_variation",
    "load_variation_compute",
    "max_violation",
    "max_violation_compute",
    "router_saturation",
    "router_saturation_compute",
    "router_saturation_update",
    "selection_counts",
]


@checked
def selection_counts(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """How often each expert was selected, with the unused slots before and the invalid ids after: ``[E + 2]``.

    Args:
        expert_ids: integers in [-1, E), ``[T, k]`` or any shape; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding; broadcast over the trailing dimensions of the ids.

    Returns:
        Counts, int64, formed without waiting for the device.

    Raises:
        ValueError: if ``num_experts`` is below 1, the ids are not integers, or the mask does not fit them.

    Example:
        >>> selection_counts(torch.tensor([[0, 2], [2, -1], [0, 7]]), num_experts=3)
        tensor([1, 2, 0, 2, 1])
    """
    require_cells("num_experts", num_experts)
    require_ids("expert_ids", expert_ids)
    counts = torch.ones_like(expert_ids, dtype=torch.int64)
    if mask is not None:
        require_mask(mask, "expert_ids", expert_ids)
        counts = counts * mask.reshape(mask.shape + (1,) * (expert_ids.dim() - mask.dim())).to(torch.int64)
    # -1, the unused slot, goes to 0, expert e to e + 1, and all other ids to E + 1.
    slots = (expert_ids.to(torch.int64).clamp(-2, num_experts) + 1).remainder(num_experts + 2)
    found = torch.zeros(num_experts + 2, dtype=torch.int64, device=expert_ids.device)
    return found.scatter_add_(0, slots.flatten(), counts.flatten())


@checked
def expert_load(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """How often each expert was selected.

    Args:
        expert_ids: integers in [-1, ``num_experts``), ``[T, k]`` or any shape; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding; broadcast over the trailing dimensions of the ids.

    Returns:
        Counts, ``[E]`` int64. Formed without waiting for the device, so an id outside [-1, E) cannot raise: it makes
        every count negative, and what is formed of them NaN.

    Raises:
        ValueError: if ``num_experts`` is below 1, the ids are not integers, or the mask does not fit them.

    Example:
        >>> expert_load(torch.tensor([[0, 2], [2, -1]]), num_experts=3)
        tensor([1, 0, 2])
    """
    counts = selection_counts(expert_ids, num_experts, mask)
    return counts[1:-1] - counts[-1:].clamp_max(1) * 2**50


def share(load: Tensor, name: str = "load") -> Tensor:
    """``[..., E]`` counts or masses over their sum; NaN where one is negative or all are 0."""
    require_layout(name, load, "[..., E], one number per expert")
    load = as_float64(load)
    total = torch.where(load.amin(-1, keepdim=True) >= 0, load.sum(-1, keepdim=True), torch.nan)
    return load / total


@checked
def load_entropy(load: Tensor, *, miller_madow: bool = False) -> Tensor:
    """Entropy of a load over its greatest possible value, H(load) / ln E.

    Args:
        load: counts, ``[..., E]``.
        miller_madow: add (used experts - 1) / 2n to H, what the plain entropy of n selections lacks on average; for few
            selections per expert. The value may then exceed 1 a little.

    Returns:
        ``[...]``, in [0, 1] without the correction; NaN with one expert, with nothing routed or with negative counts.

    Raises:
        ValueError: if ``load`` has no dimension.

    Example:
        >>> load_entropy(torch.tensor([[5, 5, 5, 5], [9, 0, 0, 0]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    entropy = _entropy(load, miller_madow=miller_madow)
    return entropy / (math.log(load.shape[-1]) if load.shape[-1] > 1 else math.nan)


def _entropy(load: Tensor, *, miller_madow: bool = False) -> Tensor:
    entropy: Tensor = torch.special.entr(share(load)).sum(-1)
    if miller_madow:
        entropy = entropy + ((load > 0).sum(-1) - 1) / (2 * as_float64(load).sum(-1))
    return entropy


@checked
def excess_load_entropy(load: Tensor, num_selected: int, *, miller_madow: bool = False) -> Tensor:
    r"""How far a load is from the most collapsed one that k distinct experts per token allow.

    .. math:: (H(f) - \ln k) / (\ln E - \ln k)

    Args:
        load: counts, ``[..., E]``.
        num_selected: k, distinct experts per token.
        miller_madow: as in :func:`load_entropy`.

    Returns:
        ``[...]``: 0 where every token selects the same k experts, 1 where the load is even; NaN where k is E.

    Raises:
        ValueError: if ``num_selected`` is not in [1, E], or ``load`` has no dimension.

    Example:
        >>> excess_load_entropy(torch.tensor([7, 7, 0, 0]), num_selected=2)
        tensor(0., dtype=torch.float64)
    """
    entropy = _entropy(load, miller_madow=miller_madow)
    num_experts = load.shape[-1]
    if not 1 <= num_selected <= num_experts:
        raise ValueError(f"num_selected must lie in [1, E = {num_experts}], got {num_selected}")
    room = math.log(num_experts / num_selected) or math.nan
    return (entropy - math.log(num_selected)) / room


@checked
def configuration_entropy_score(
    expert_ids: Tensor, num_experts: int, mask: Tensor | None = None, *, miller_madow: bool = False
) -> Tensor:
    r"""Configuration entropy score (CES): how evenly the experts are used.

    .. math:: CES = H(f) / \ln E, \quad f_e = c_e / \sum_i c_i

    1 is a perfectly balanced load. The least possible value for k distinct experts per token is ln k / ln E. The source
    calls 0.3 to 0.7 optimal; load balancing aims at 1, so read it beside the conditional entropy. Of a load that was
    counted already, :func:`load_entropy` forms it.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.
        miller_madow: as in :func:`load_entropy`.

    Returns:
        A number in [0, 1]; NaN with one expert, with nothing routed or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 5.

    Example:
        >>> configuration_entropy_score(torch.arange(8).expand(5, 8), num_experts=256)  # top-8, collapsed
        tensor(0.3750, dtype=torch.float64)
    """
    return load_entropy(expert_load(expert_ids, num_experts, mask), miller_madow=miller_madow)


@checked
def max_violation(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Maximal violation of a balanced load (MaxVio), max c / mean c - 1.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number in [0, E - 1]; NaN with nothing routed or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Source:
        Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", arXiv 2408.15664.

    Example:
        >>> max_violation(torch.tensor([[0, 1], [0, 2], [0, 3]]), num_experts=4)
        tensor(1., dtype=torch.float64)
    """
    return max_violation_compute(expert_load(expert_ids, num_experts, mask))


@checked
def max_violation_compute(load: Tensor) -> Tensor:
    """MaxVio of loads ``[..., E]``; see :func:`max_violation`.

    Example:
        >>> max_violation_compute(torch.tensor([[6, 2, 2, 2], [3, 3, 3, 3]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    return share(load).amax(-1) * load.shape[-1] - 1


@checked
def load_variation(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Squared coefficient of variation of the load, Var(c) / mean(c)^2, over all experts.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number in [0, E - 1]; NaN with nothing routed or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Source:
        Shazeer et al., "Outrageously Large Neural Networks", arXiv 1701.06538, section 4.

    Example:
        >>> load_variation(torch.zeros(4, 1, dtype=torch.int64), num_experts=2)
        tensor(1., dtype=torch.float64)
    """
    return load_variation_compute(expert_load(expert_ids, num_experts, mask))


@checked
def load_variation_compute(load: Tensor) -> Tensor:
    """CV² of loads ``[..., E]``, or of the importance of experts (sums of their weights); see :func:`load_variation`.

    Example:
        >>> load_variation_compute(torch.tensor([4, 0]))
        tensor(1., dtype=torch.float64)
    """
    return (share(load) * load.shape[-1]).var(-1, correction=0)


@checked
def dead_experts(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Share of experts that received nothing; judge it over a window of many more than E / k tokens.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A fraction in [0, 1 - 1/E]; NaN with nothing routed or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Example:
        >>> dead_experts(torch.tensor([[0, 2], [0, 0]]), num_experts=4)
        tensor(0.5000, dtype=torch.float64)
    """
    return dead_experts_compute(expert_load(expert_ids, num_experts, mask))


@checked
def dead_experts_compute(load: Tensor) -> Tensor:
    """Share of zeros in loads ``[..., E]``; see :func:`dead_experts`.

    Example:
        >>> dead_experts_compute(torch.tensor([9, 0, 3, 0]))
        tensor(0.5000, dtype=torch.float64)
    """
    used = share(load)
    return torch.where(used.isnan(), used, (used == 0).to(used.dtype)).mean(-1)


@checked
def effective_experts(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Effective number of experts: that of equally used ones with the same entropy, exp(H(f)).

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number in [1, E]; NaN with nothing routed or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Example:
        >>> effective_experts(torch.tensor([[0, 1], [1, 0]]), num_experts=4)
        tensor(2., dtype=torch.float64)
    """
    return effective_experts_compute(expert_load(expert_ids, num_experts, mask))


@checked
def effective_experts_compute(load: Tensor) -> Tensor:
    """exp(H) of loads ``[..., E]``; see :func:`effective_experts`.

    Example:
        >>> effective_experts_compute(torch.tensor([5, 5, 0, 0]))
        tensor(2., dtype=torch.float64)
    """
    return _entropy(load).exp()


@checked
def drop_rate(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Share of the selections that no expert received, where its capacity is finite.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is a dropped selection.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A fraction in [0, 1]; NaN with nothing selected or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Example:
        >>> drop_rate(torch.tensor([[0, 1], [1, -1]]), num_experts=4)
        tensor(0.2500, dtype=torch.float64)
    """
    counts = selection_counts(expert_ids, num_experts, mask)
    return unless_invalid(drop_rate_compute(counts[0], counts[1:-1]), counts[-1])


@checked
def drop_rate_compute(num_dropped: Tensor, load: Tensor) -> Tensor:
    """Selections that were dropped, ``[...]``, over those and the load ``[..., E]``; see :func:`drop_rate`.

    Example:
        >>> drop_rate_compute(torch.tensor(2), torch.tensor([3, 5]))
        tensor(0.2000, dtype=torch.float64)
    """
    dropped, received = as_float64(num_dropped), load.sum(-1)
    require_broadcast(num_dropped=dropped, load=received)
    return dropped / (dropped + received)


@checked
def router_saturation(expert_ids: Tensor, reference_ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Router saturation: the share of a token's experts that a reference checkpoint selects for it, too.

    Args:
        expert_ids: the selected experts, ``[T, k]`` distinct integers per token; -1 is an unused slot.
        reference_ids: those of the reference, for the same tokens, ``[T, k]``.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        The mean over tokens of ``|S and S'| / k``, in [0, 1]; NaN with no token or with an id below -1.

    Raises:
        ValueError: if the ids are no integers, the two differ in the number of tokens, or the mask does not fit them.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060, section 5.1.

    Example:
        >>> router_saturation(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 0], [2, 5]]))
        tensor(0.7500, dtype=torch.float64)
    """
    *sums, num_invalid = router_saturation_update(expert_ids, reference_ids, mask)
    return unless_invalid(router_saturation_compute(*sums), num_invalid)


@checked
def router_saturation_update(
    expert_ids: Tensor, reference_ids: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum over tokens of the share of common experts, the tokens in it, and the ids below -1.

    Example:
        >>> router_saturation_update(torch.tensor([[0, 1]]), torch.tensor([[1, 0]]))
        (tensor(1., dtype=torch.float64), tensor(1), tensor(0))
    """
    require_ids("expert_ids", expert_ids)
    require_ids("reference_ids", reference_ids)
    if expert_ids.dim() != 2 or expert_ids.shape[:-1] != reference_ids.shape[:-1]:
        raise ValueError(
            f"expert_ids and reference_ids must be [T, k] of the same tokens, got {tuple(expert_ids.shape)} and "
            f"{tuple(reference_ids.shape)}"
        )
    require_token_mask(mask, "expert_ids", expert_ids)
    same = (expert_ids.unsqueeze(-1) == reference_ids.unsqueeze(-2)) & (expert_ids >= 0).unsqueeze(-1)
    num_invalid = (expert_ids < -1).sum(-1) + (reference_ids < -1).sum(-1)
    common = as_float64(same.any(-1)).mean(-1)
    return masked_sum(common, mask), num_tokens(expert_ids, mask), masked_sum(num_invalid, mask)


@checked
def router_saturation_compute(same: Tensor, num_tokens: Tensor) -> Tensor:
    """The mean share of common experts, of sums ``[...]``; see :func:`router_saturation`.

    Example:
        >>> router_saturation_compute(torch.tensor(1.5), torch.tensor(2))
        tensor(0.7500, dtype=torch.float64)
    """
    require_broadcast(same=same, num_tokens=num_tokens)
    return as_float64(same) / num_tokens


@checked
def expert_coactivation(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Co-activation: of the tokens of expert i, the share that expert j received as well, N_ij / N_i.

    Args:
        expert_ids: the selected experts, distinct integers per token in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        ``[E, E]``, fractions in [0, 1]; 1 on the diagonal; NaN in the row of an expert that received nothing, and
        everywhere with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060, section 5.2, over all pairs of a token's experts.

    Example:
        >>> expert_coactivation(torch.tensor([[0, 1], [0, -1]]), num_experts=2)
        tensor([[1.0000, 0.5000],
                [1.0000, 1.0000]], dtype=torch.float64)
    """
    pairs, num_invalid = expert_coactivation_update(expert_ids, num_experts, mask)
    return unless_invalid(expert_coactivation_compute(pairs), num_invalid)


@checked
def expert_coactivation_update(
    expert_ids: Tensor, num_experts: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """N_ij, the tokens for which i and j were both selected, ``[E, E]`` with N_i on the diagonal, and the invalid ids.

    Example:
        >>> expert_coactivation_update(torch.tensor([[0, 1], [0, -1]]), num_experts=2)[0]
        tensor([[2., 1.],
                [1., 1.]], dtype=torch.float64)
    """
    num_invalid = selection_counts(expert_ids, num_experts, mask)[-1]
    if expert_ids.dim() != 2:
        raise ValueError(f"expert_ids must be [T, k], got {tuple(expert_ids.shape)}")
    require_cells("num_experts", num_experts, num_experts)
    require_token_mask(mask, "expert_ids", expert_ids)
    # Column 0 takes the unused slots, the last one the invalid ids.
    selected = torch.zeros(
        (expert_ids.shape[0], num_experts + 2), dtype=as_float64(num_invalid).dtype, device=expert_ids.device
    )
    slots = expert_ids.to(torch.int64).clamp(-1, num_experts) + 1
    selected = selected.scatter(1, slots, 1.0)[:, 1:-1]
    return selected.T @ (selected if mask is None else selected * mask[:, None]), num_invalid


@checked
def expert_coactivation_compute(pairs: Tensor) -> Tensor:
    """N_ij / N_i, of counts ``[..., E, E]``; see :func:`expert_coactivation`.

    Example:
        >>> expert_coactivation_compute(torch.tensor([[4, 1], [1, 2]]))
        tensor([[1.0000, 0.2500],
                [0.5000, 1.0000]], dtype=torch.float64)
    """
    require_square("pairs", pairs)
    pairs = as_float64(pairs)
    return pairs / pairs.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
