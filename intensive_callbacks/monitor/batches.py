"""What can be told of a batch without knowing whose it is."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from intensive_callbacks.routing.padding import MASKS, real_tokens


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


def num_tokens(batch: Any, mask: Tensor | None = None) -> int | Tensor | None:
    """Tokens that are no padding, on the batch's device where a mask must be summed; ``None`` without ``input_ids``.

    Padding is told by the rule of the routers, :func:`real_tokens`: from ``mask``, else from the batch's own mask.

    Example:
        >>> import torch
        >>> num_tokens({"input_ids": torch.tensor([[7, 7, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])})
        tensor(2)
    """
    input_ids = _field(batch, "input_ids")
    masks = {"mask": mask} if mask is not None else {name: _field(batch, name) for name in MASKS[:-1]}
    for name, given in masks.items():
        if given is not None and given.dim() > 1:
            shape = given.shape if input_ids is None else input_ids.shape  # embeddings in place of ids
            real = real_tokens(given, *shape, name) if len(shape) == 2 else None
            if real is not None:
                return real[:, -shape[1] :].sum()
    return num_positions(batch)
