"""How much of a model's capacity is used, and how evenly its routers spend it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import (
    as_float64,
    as_fraction,
    correct_for_chance,
    require_baseline,
    require_positive,
)

__all__ = [
    "configuration_entropy_score",
    "excess_load_entropy",
    "expert_load",
    "load_entropy",
    "relevance_realization_rate",
]


def relevance_realization_rate(
    accuracy: float | Tensor,
    total_params: float,
    active_params: float | Tensor,
    random_baseline: float,
    *,
    chance_corrected: bool = False,
) -> Tensor:
    """Relevance realisation rate (R3): the active share of a model times its gain over chance.

    .. math:: R3 = (N_{active} / N_{total}) (a / r)

    Every dense model stands above every sparse one of equal accuracy: it measures use, not merit.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        total_params: every parameter once.
        active_params: parameters that one token touches, at most ``total_params``.
        random_baseline: r, the accuracy of chance, in (0, 1).
        chance_corrected: use (a - r) / (1 - r) for the gain, which keeps the rate in [0, 1] above chance.

    Returns:
        A plain number, of the shape of ``accuracy``; in [0, 1/r].

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``total_params`` is not above 0, ``active_params`` is a
            number outside [0, ``total_params``], or ``random_baseline`` is outside (0, 1).

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 4.

    Example:
        >>> relevance_realization_rate(0.85, total_params=671e9, active_params=37e9, random_baseline=0.25)
        tensor(0.1875, dtype=torch.float64)
    """
    share = active_share(total_params, active_params)
    baseline = require_baseline(random_baseline)
    fraction = as_fraction("accuracy", accuracy)
    return share * (correct_for_chance(fraction, baseline) if chance_corrected else fraction / baseline)


def active_share(total_params: float, active_params: float | Tensor) -> Tensor:
    """Active / total, as float64; numbers are checked, the elements of a tensor are not."""
    require_positive("total_params", total_params)
    if not isinstance(active_params, Tensor) and not 0 <= active_params <= total_params:
        raise ValueError(f"active_params must lie in [0, total_params = {total_params}], got {active_params}")
    return as_float64(active_params) / total_params


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
    if num_experts < 1:
        raise ValueError(f"num_experts must be at least 1, got {num_experts}")
    if expert_ids.is_floating_point() or expert_ids.dtype == torch.bool:
        raise ValueError(f"expert_ids must be integers, got {expert_ids.dtype}; pass the ids, not the weights")
    counts = torch.ones_like(expert_ids, dtype=torch.int64)
    if mask is not None:
        if mask.shape != expert_ids.shape[: mask.dim()]:
            raise ValueError(
                f"mask must have the leading shape of expert_ids {tuple(expert_ids.shape)}, got {tuple(mask.shape)}"
            )
        counts = counts * mask.reshape(mask.shape + (1,) * (expert_ids.dim() - mask.dim())).to(torch.int64)
    # The first slot takes what is unused and the last one what is no expert, so that nothing has to be selected.
    load = torch.zeros(num_experts + 2, dtype=torch.int64, device=expert_ids.device)
    slots = expert_ids.flatten().to(torch.int64).clamp(-2, num_experts) + 1
    load.scatter_add_(0, torch.where(slots < 0, num_experts + 1, slots), counts.flatten())
    return load[1:-1] - load[-1:].clamp_max(1) * 2**50


def load_entropy(load: Tensor, *, miller_madow: bool = False) -> Tensor:
    """Entropy of a load over its greatest possible value, H(load) / ln E.

    Args:
        load: counts, ``[..., E]``.
        miller_madow: add (used experts - 1) / 2n to H, what the plain entropy of n selections lacks on average; for few
            selections per expert. The value may then exceed 1 a little.

    Returns:
        ``[...]``, in [0, 1] without the correction; NaN with one expert, with nothing routed or with negative counts.

    Example:
        >>> load_entropy(torch.tensor([[5, 5, 5, 5], [9, 0, 0, 0]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    num_experts = load.shape[-1]
    return _entropy(load, miller_madow=miller_madow) / (math.log(num_experts) if num_experts > 1 else math.nan)


def _entropy(load: Tensor, *, miller_madow: bool) -> Tensor:
    counts = as_float64(load)
    total = counts.sum(-1)
    entropy: Tensor = torch.special.entr(counts / total.unsqueeze(-1)).sum(-1)
    if miller_madow:
        entropy = entropy + ((counts > 0).sum(-1) - 1) / (2 * total)
    return torch.where((counts >= 0).all(-1), entropy, torch.nan)


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
        ValueError: if ``num_selected`` is not in [1, E].

    Example:
        >>> excess_load_entropy(torch.tensor([7, 7, 0, 0]), num_selected=2)
        tensor(0., dtype=torch.float64)
    """
    num_experts = load.shape[-1]
    if not 1 <= num_selected <= num_experts:
        raise ValueError(f"num_selected must lie in [1, E = {num_experts}], got {num_selected}")
    room = math.log(num_experts / num_selected) or math.nan
    return (_entropy(load, miller_madow=miller_madow) - math.log(num_selected)) / room


def configuration_entropy_score(expert_ids: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    r"""Configuration entropy score (CES): how evenly the experts are used.

    .. math:: CES = H(f) / \ln E, \quad f_e = c_e / \sum_i c_i

    1 is a perfectly balanced load. The least possible value for k distinct experts per token is ln k / ln E. The source
    calls 0.3 to 0.7 optimal; load balancing aims at 1, so read it beside the conditional entropy.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is an unused slot.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.

    Returns:
        A number in [0, 1]; NaN with one expert or with nothing routed.

    Raises:
        ValueError: as :func:`expert_load`.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 5.

    Example:
        >>> configuration_entropy_score(torch.arange(8).expand(5, 8), num_experts=256)  # top-8, collapsed
        tensor(0.3750, dtype=torch.float64)
    """
    return load_entropy(expert_load(expert_ids, num_experts, mask))
