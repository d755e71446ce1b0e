"""Which tensors of a layer's forward are its decision: the usual ones, or those that its experts follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUTER = "what the router returned"
INTEGERS = (torch.int64, torch.int32)

# The number-th output of the function of this name, of those that may be a decision.
Place = tuple[str, int]


@dataclass(frozen=True)
class Reading:
    """How a layer's decision is read.

    Attributes:
        places: the tensors that are the decision; none for the usual ones.
        narrows: whether they say which of the usual selections are kept, and the others are dropped.
        from_experts: what is counted at the experts in place of ids: their "rows", their "filled rows" or nothing.
        is_dense: whether all experts compute for every token.
    """

    places: tuple[Place, ...] = ()
    narrows: bool = False
    from_experts: str = ""
    is_dense: bool = False

    @property
    def names(self) -> set[str]:
        """The functions to watch."""
        return {name for name, _ in self.places}


def as_decision(output: Any, num_tokens: int, num_experts: int) -> Tensor | None:
    """A tensor as a decision about T tokens: ids ``[T, k]``, or ``[T, E]`` booleans; ``None`` if it cannot be one."""
    if not isinstance(output, Tensor) or output.is_nested or num_tokens == 0 or output.numel() % num_tokens:
        return None
    shape, per_token = output.shape, output.numel() // num_tokens
    if output.dtype in INTEGERS and 0 < per_token < num_experts:
        return output.detach().reshape(num_tokens, per_token) if shape[-1] == per_token or per_token == 1 else None
    if shape[-1:] == (num_experts,) and per_token == num_experts:
        return output.detach().reshape(num_tokens, num_experts) != 0
    if shape == (num_experts, num_tokens):
        return output.detach().T != 0
    if len(shape) > 2 and shape[-2] == num_experts and per_token == num_experts * shape[-1]:  # places of a capacity
        return (output.detach() != 0).any(-1).reshape(num_tokens, num_experts)
    return None


def decision_of(output: Any, num_tokens: int, num_experts: int) -> Tensor | None:
    """:func:`as_decision` of what a function returned: of values with their indices, the indices."""
    if isinstance(output, tuple) and len(output) == 2:
        output = output[1]
    return as_decision(output, num_tokens, num_experts)


def load_of(decision: Tensor, num_experts: int) -> Tensor:
    """Selections per expert, ``[E]``."""
    if decision.dtype == torch.bool:
        return decision.sum(0)
    ids = decision.flatten()
    return torch.bincount(ids[(ids >= 0) & (ids < num_experts)], minlength=num_experts)


def dispatch_of(decision: Tensor, num_experts: int) -> Tensor:
    """Which tokens go to which experts, ``[T, E]`` booleans."""
    if decision.dtype == torch.bool:
        return decision
    ids = decision.long()
    slots = ids.masked_fill((ids < 0) | (ids >= num_experts), num_experts)
    chosen = torch.zeros(len(ids), num_experts + 1, dtype=torch.bool, device=ids.device)
    return chosen.scatter_(1, slots, value=True)[:, :num_experts]


def union(decisions: Sequence[Tensor], num_experts: int) -> Tensor:
    """Several decisions as one: of ids side by side, of others whatever any of them selects."""
    if len(decisions) == 1:
        return decisions[0]
    if all(decision.dtype != torch.bool for decision in decisions):
        return torch.cat([decision.long() for decision in decisions], dim=1)
    return torch.stack([dispatch_of(decision, num_experts) for decision in decisions]).any(0)
