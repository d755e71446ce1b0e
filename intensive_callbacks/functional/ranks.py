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
    samples = samples.detach()  # ranks have no slope
    order = _order(samples)
    ascending = samples.gather(-1, order)
    repeats = torch.nn.functional.pad(ascending[..., 1:] == ascending[..., :-1], (1, 0)).flatten()
    shared = scores.expand(samples.shape).clone(memory_format=torch.contiguous_format).flatten()
    tied = (repeats | repeats.roll(-1)).nonzero().squeeze(-1)
    if len(tied) > 0:
        group = (~repeats[tied]).cumsum(0) - 1
        means = shared.new_zeros(int(group[-1]) + 1).index_add_(0, group, shared[tied]) / group.bincount()
        shared[tied] = means[group]
    return torch.empty_like(shared).view(samples.shape).scatter_(-1, order, shared.view(samples.shape))


def _order(samples: Tensor) -> Tensor:
    if samples.device.type == "cpu" and samples.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(samples.numpy().argsort(axis=-1))  # several times as fast as torch's
    return samples.argsort(dim=-1)
