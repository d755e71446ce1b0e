"""Which tokens are real: one rule for the masks that models are called with, whatever their name and form."""

from __future__ import annotations

import torch
from torch import Tensor

# In order of preference. What is called a padding mask marks the padding, as torch's own modules have it.
MASKS = ("attention_mask", "src_key_padding_mask", "key_padding_mask", "padding_mask", "decoder_attention_mask")
# A bias of the attention's scores below this hides a token; biases by distance (ALiBi) are smaller.
HIDDEN = -1e3


def real_tokens(mask: Tensor, batch_size: int, length: int, name: str = "attention_mask") -> Tensor | None:
    """The positions that are no padding, ``[B, S]`` booleans; ``None`` where a mask says nothing about padding.

    Args:
        mask: booleans, 0 and 1, ids of packed documents (0 is padding), or floats that are added to the attention's
            scores; ``[B, S]``, or ``[B, S, S]``, ``[B, heads, S, S]`` or ``[B, 1, 1, S]``, in which a position is real
            if it attends to itself. A mask ``[S, S]`` is of the attention alone. With a cache the last dimension is
            longer than the input.
        batch_size: B of the input.
        length: S of the input.
        name: the name that the mask is passed by; of one called a padding mask, what is true is padding.

    Example:
        >>> real_tokens(torch.tensor([[1, 1, 2, 0]]), 1, 4)
        tensor([[ True,  True,  True, False]])
        >>> real_tokens(torch.ones(4, 4).tril(), 3, 4) is None
        True
    """
    if mask.is_nested or mask.dim() not in (2, 3, 4) or mask.shape[0] != batch_size or mask.shape[-1] < length:
        return None
    marks_padding = name.endswith("padding_mask") and not mask.is_floating_point()
    attended = (mask == 0) if marks_padding else _attended(mask)
    if mask.dim() == 2:
        if batch_size == length == mask.shape[1] and _is_causal(attended):
            return None
        return attended
    if mask.dim() == 4:
        attended = attended[:, 0]
    if attended.shape[1] == 1:
        return attended[:, 0]
    if attended.shape[1] != length:
        return None
    return attended.diagonal(attended.shape[2] - length, dim1=1, dim2=2)


def _attended(mask: Tensor) -> Tensor:
    """What a mask lets through: of floats that are added, all that are not far below 0; of others, all but 0."""
    if not mask.is_floating_point():
        return mask != 0
    # 1 and 0 have something above 0; where nothing is, 0 is what is added to the score of a real token.
    return torch.where((mask > 0).any() & (mask >= 0).all(), mask > 0, mask > HIDDEN)


def _is_causal(attended: Tensor) -> bool:
    """Whether booleans ``[S, S]``, with as many sequences as positions, are a triangle: the only question of values."""
    if torch.compiler.is_compiling():
        return False
    return torch.equal(attended, torch.ones_like(attended).tril())
