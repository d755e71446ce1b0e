"""Sums over the tokens of a batch, formed without waiting for the device, and values of sums that may be invalid."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """The sum over tokens of ``[T]`` or ``[T, E]``, without those of padding.

    Example:
        >>> masked_sum(torch.tensor([1.0, 2.0, torch.nan]), torch.tensor([True, True, False]))
        tensor(3.)
    """
    if mask is not None:
        values = values.masked_fill(~mask.reshape(mask.shape + (1,) * (values.dim() - 1)), 0)
    return values.sum(0, dtype=dtype)


def num_tokens(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """How many rows ``[T, ...]`` are no padding."""
    return torch.full((), tokens.shape[0], device=tokens.device) if mask is None else mask.sum()


def unless_invalid(value: Tensor, num_invalid: Tensor) -> Tensor:
    """``value`` where nothing invalid was counted, NaN elsewhere; ``num_invalid`` has its leading dimensions."""
    num_invalid = num_invalid.reshape(num_invalid.shape + (1,) * (value.dim() - num_invalid.dim()))
    return torch.where(num_invalid == 0, value, torch.nan)
