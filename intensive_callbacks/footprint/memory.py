"""Bytes, in scopes that are never mixed: resident weights, peak of inference, peak of training, size on disk."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["resident_bytes"]


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes that a tensor's elements take: of a quantised one what it is packed in, of a sharded one all shards."""
    if not is_traceable_wrapper_subclass(tensor) or hasattr(tensor, "full_tensor"):
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.__tensor_flatten__()
    return sum(tensor_bytes(getattr(tensor, name)) for name in names)


def resident_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights: parameters and buffers, those that are shared once, sharded ones at full size.

    Example:
        >>> import torch
        >>> resident_bytes(torch.nn.Linear(10, 10, dtype=torch.bfloat16))
        220
    """
    return sum(map(tensor_bytes, chain(model.parameters(), model.buffers())))
