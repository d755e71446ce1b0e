"""Ranks, with ties shared fairly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def score_by_rank(samples: Tensor, scores: Tensor) -> Tensor:
    """Give the smallest sample of each row the first score, the next the second, and equal samples their mean score.

    Args:
        samples: ``[..., n]``.
        scores: ``[n]``.

    Returns:
        ``[..., n]``, of the dtype of ``scores``.

    Example:
        >>> score_by_rank(torch.tensor([5.0, 1.0, 5.0]), torch.tensor([0.0, 1.0, 2.0]))
        tensor([1.5000, 0.0000, 1.5000])
    """
    ascending, order = samples.sort(dim=-1)
    changes = ascending[..., 1:] != ascending[..., :-1]
    shared = scores.expand(samples.shape)
    if not changes.all():
        group = torch.nn.functional.pad(changes.to(torch.int64).cumsum(-1), (1, 0))
        sums = torch.zeros_like(shared).scatter_add_(-1, group, shared)
        counts = torch.zeros_like(shared).scatter_add_(-1, group, torch.ones_like(shared))
        shared = (sums / counts).gather(-1, group)
    return torch.empty_like(shared).scatter_(-1, order, shared)
