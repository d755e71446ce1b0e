"""What can be told of a batch without knowing whose it is."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def num_examples(batch: Any) -> int:
    """The first dimension of the first tensor; 0 where there is no tensor.

    Example:
        >>> import torch
        >>> num_examples({"image": torch.zeros(8, 3), "label": torch.zeros(8)})
        8
    """
    tensor = next((leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim() > 0), None)
    return 0 if tensor is None else tensor.shape[0]


def shapes(batch: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors of a batch: what a forward pass costs depends on them.

    Example:
        >>> import torch
        >>> shapes({"image": torch.zeros(8, 3), "label": torch.zeros(8)})
        (torch.Size([8, 3]), torch.Size([8]))
    """
    return tuple(leaf.shape for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))


def _field(batch: Any, name: str) -> Tensor | None:
    """A named tensor of a mapping, such as a dict or a transformers ``BatchEncoding``."""
    value = batch[name] if hasattr(batch, "keys") and name in batch else None
    return value if isinstance(value, Tensor) else None


def num_positions(batch: Any) -> int | None:
    """Token positions, padding included: what a forward pass computes. ``None`` where there are no ``input_ids``."""
    input_ids = _field(batch, "input_ids")
    return None if input_ids is None else input_ids.numel()


def num_tokens(batch: Any) -> int | Tensor | None:
    """Tokens that are no padding, on the batch's device where a mask must be summed; ``None`` without ``input_ids``.

    Example:
        >>> import torch
        >>> num_tokens({"input_ids": torch.tensor([[7, 7, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])})
        tensor(2)
    """
    attention_mask = _field(batch, "attention_mask")
    return num_positions(batch) if attention_mask is None else attention_mask.sum()
