"""Whether everything that the routers of a model decided was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intensive_callbacks.functional.checks import as_float64, require_broadcast
from intensive_callbacks.functional.routing_selections import selection_counts
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["routing_coverage", "routing_coverage_compute", "routing_coverage_update"]


@checked
def routing_coverage(
    expert_ids: Tensor, num_experts: int, mask: Tensor | None = None, num_entered: int | None = None
) -> Tensor:
    """Coverage: the selections that were counted, received and dropped, over those that were to be made.

    Args:
        expert_ids: the selected experts, integers in [-1, E), ``[T, k]``; -1 is a dropped selection.
        num_experts: E.
        mask: ``[T]`` booleans, false where a token is padding.
        num_entered: how many tokens entered the layer; by default those of ``expert_ids`` that are no padding.

    Returns:
        1 where every token that entered has its k selections; below 1 where some were not seen, above 1 where some
        were counted twice. NaN if no token entered or with an id outside [-1, E).

    Raises:
        ValueError: as :func:`expert_load`.

    Example:
        >>> import torch
        >>> routing_coverage(torch.tensor([[0, 1], [1, -1]]), num_experts=4, num_entered=4)
        tensor(0.5000, dtype=torch.float64)
    """
    load, num_dropped, num_expected, num_invalid = routing_coverage_update(expert_ids, num_experts, mask, num_entered)
    return unless_invalid(routing_coverage_compute(load, num_dropped, num_expected), num_invalid)


@checked
def routing_coverage_update(
    expert_ids: Tensor, num_experts: int, mask: Tensor | None = None, num_entered: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The load ``[E]``, the dropped, the expected and the invalid selections of one batch.

    Example:
        >>> import torch
        >>> routing_coverage_update(torch.tensor([[0, 1], [1, -1]]), num_experts=2)
        (tensor([1, 2]), tensor(1), tensor(4), tensor(0))
    """
    counts = selection_counts(expert_ids, num_experts, mask)
    if expert_ids.dim() == 0:
        raise ValueError("expert_ids must be [T, k], got a number")
    num_expected = counts.sum() if num_entered is None else counts.new_tensor(num_entered * expert_ids.shape[-1])
    return counts[1:-1], counts[0], num_expected, counts[-1]


@checked
def routing_coverage_compute(load: Tensor, num_dropped: Tensor, num_expected: Tensor) -> Tensor:
    """Coverage of loads ``[..., E]``, dropped and expected selections ``[...]``; see :func:`routing_coverage`.

    Example:
        >>> import torch
        >>> routing_coverage_compute(torch.tensor([3, 4]), torch.tensor(1), torch.tensor(8))
        tensor(1., dtype=torch.float64)
    """
    expected = as_float64(num_expected)
    received = load.sum(-1)
    require_broadcast(load=received, num_dropped=num_dropped, num_expected=expected)
    counted = (received + num_dropped).to(expected)
    return counted / expected.masked_fill(expected == 0, float("nan"))
