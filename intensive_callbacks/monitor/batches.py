"""What can be told of a batch without knowing whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from intensive_callbacks.routing.padding import MASKS, real_tokens


def tensors(batch: Any) -> list[Tensor]:
    """All tensors of a batch, in order: of tuples, lists, mappings and dataclasses, and of what torch can flatten.

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
    if is_dataclass(batch):
        return tensors([getattr(batch, each.name) for each in fields(batch)])
    if isinstance(batch, Mapping):  # a transformers BatchEncoding, say
        return tensors(list(batch.values()))
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]


def num_examples(batch: Any) -> int:
    """The first dimension of ``input_ids``, or else of the first tensor; 0 where there is no tensor.

    Example:
        >>> import torch
        >>> num_examples({"image": torch.zeros(8, 3), "label": torch.zeros(8)})
        8
    """
    input_ids = _field(batch, "input_ids")
    first = [] if input_ids is None else [input_ids]
    return next((tensor.size(0) for tensor in first or tensors(batch) if tensor.dim()), 0)


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
    """Token positions, padding included: what a forward pass computes. ``None`` where there are no token ids.

    Token ids are ``input_ids``, or integer sequences ``[B, S]`` that stand alone or beside one integer label for each
    position, as the pairs (x, y) of a language model do.

    Example:
        >>> import torch
        >>> ids = torch.zeros(8, 128, dtype=torch.int64)
        >>> num_positions({"input_ids": ids}), num_positions((ids, ids)), num_positions((ids, ids[:, 0]))
        (1024, 1024, None)
    """
    input_ids = _field(batch, "input_ids")
    if input_ids is not None:
        return input_ids.numel()
    found = tensors(batch)
    if not found or not _is_sequence(found[0]):
        return None
    ids, *others = found
    has_labels = any(_is_sequence(each) and each.shape == ids.shape for each in others)
    return ids.numel() if has_labels or not others else None


def _is_sequence(tensor: Tensor) -> bool:
    """Whether a tensor has integer sequences ``[B, S]`` of more than one position."""
    is_integer = tensor.dtype in {torch.int64, torch.int32}
    return is_integer and not tensor.is_nested and tensor.dim() == 2 and tensor.size(1) > 1


def examples_question(batch: Any) -> str | None:
    """Why the examples of a batch cannot be counted for sure, in words; ``None`` where they can."""
    sizes = {tensor.size(0): None for tensor in tensors(batch) if tensor.dim()}
    if len(sizes) == 1 or _field(batch, "input_ids") is not None:
        return None
    if not sizes:
        return f"no tensor is found in a batch, a {type(batch).__name__}, so that its examples cannot be counted"
    found = ", ".join(map(str, sizes))
    taken = num_examples(batch)
    return (
        f"the first dimensions of a batch's tensors differ ({found}), and {taken} is taken for its number of examples"
    )


def tokens_question(batch: Any) -> str | None:
    """Why it is not sure whether a batch has tokens, in words; ``None`` where it is."""
    first = next(iter(tensors(batch)), None)
    if first is None or not _is_sequence(first) or num_positions(batch) is not None:
        return None
    return f"a batch begins with integers {list(first.shape)} without a label for each of them"


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
