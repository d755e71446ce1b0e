"""What can be told of a batch without knowing whose it is."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def tensors(batch: Any) -> list[Tensor]:
    """All tensors of a batch, in order.

    Example:
        >>> import torch
        >>> len(tensors({"image": torch.zeros(8, 3), "labels": [torch.zeros(8), "names"]}))
        2
    """
    if isinstance(batch, Tensor):
        return [batch]
    if type(batch) in (tuple, list, dict):  # most batches; torch's own walk takes ten times as long
        parts = batch.values() if isinstance(batch, dict) else batch
        return [tensor for part in parts for tensor in tensors(part)]
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]


def num_examples(batch: Any) -> int:
    """The first dimension of the first tensor; 0 where there is no tensor.

    Example:
        >>> import torch
        >>> num_examples({"image": torch.zeros(8, 3), "label": torch.zeros(8)})
        8
    """
    return next((tensor.size(0) for tensor in tensors(batch) if tensor.dim()), 0)


def shapes(batch: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors of a batch: what a forward pass costs depends on them.

    Example:
        >>> import torch
        >>> shapes({"image": torch.zeros(8, 3), "label": torch.zeros(8)})
        (torch.Size([8, 3]), torch.Size([8]))
    """
    return tuple([_shape(tensor) for tensor in tensors(batch)])


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """A nested tensor has no shape, but a number of sequences and of elements."""
    return (tensor.size(0), tensor.numel()) if tensor.is_nested else tensor.shape


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
