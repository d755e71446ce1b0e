"""What one router decided in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False, slots=True)
class RouterSample:
    """The decision of one router for T tokens: whatever of it could be read.

    Args:
        layer: name of the layer.
        num_experts: E, the classes of the router: zero-compute experts included.
        expert_ids: ``[T, k]`` integers in [-1, E); -1 is a slot that no expert received.
        weights: ``[T, k]``, the weights of the selected experts.
        dispatch: ``[T, E]`` booleans, in place of ``expert_ids`` where a token may have any number of experts.
        probabilities: ``[T, E]``, rows that sum to 1.
        logits: ``[T, E]``, as the router made them, before any normalization.
        mask: ``[T]`` booleans, false where a token is padding.

    Raises:
        ValueError: if a tensor has another shape.

    Example:
        >>> import torch
        >>> RouterSample("mlp", 4, expert_ids=torch.tensor([[0, 1], [2, -1]])).num_tokens
        2
    """

    layer: str
    num_experts: int
    expert_ids: Tensor | None = None
    weights: Tensor | None = None
    dispatch: Tensor | None = None
    probabilities: Tensor | None = None
    logits: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.expert_ids is not None and self.expert_ids.dim() != 2:
            raise ValueError(f"expert_ids must be [T, k], got {tuple(self.expert_ids.shape)} from {self.layer}")
        wide = (self.num_tokens, self.num_experts)
        slots = wide if self.expert_ids is None else self.expert_ids.shape
        for name, tensor, shape in (
            ("weights", self.weights, slots),
            ("dispatch", self.dispatch, wide),
            ("probabilities", self.probabilities, wide),
            ("logits", self.logits, wide),
            ("mask", self.mask, wide[:1]),
        ):
            if tensor is not None and tensor.shape != shape:
                raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)} from {self.layer}")

    @property
    def num_tokens(self) -> int:
        """T, padding included."""
        if self.expert_ids is not None:
            return self.expert_ids.shape[0]
        for tensor in (self.dispatch, self.probabilities, self.logits):
            if tensor is not None:
                return tensor.shape[0]
        raise ValueError(f"a sample of {self.layer} needs expert_ids, dispatch, probabilities or logits; got none")

    def mask_padding(self, mask: Tensor | None) -> None:
        """Set ``mask``, which a router itself does not know."""
        self.mask = mask
