"""What activation checkpointing trades: memory for recomputation."""

from __future__ import annotations

import math
from typing import NamedTuple

from intensive_callbacks.functional.signatures import checked

__all__ = ["CheckpointTradeoff", "checkpoint_tradeoff"]


class CheckpointTradeoff(NamedTuple):
    """What activation checkpointing keeps and repeats, as :func:`checkpoint_tradeoff` counts it.

    Attributes:
        memory: layers' activations held at once.
        recomputed: layers that run a second time.
    """

    memory: int
    recomputed: int


@checked
def checkpoint_tradeoff(num_layers: int, segment: int | None = None) -> CheckpointTradeoff:
    r"""Memory and recomputation of activation checkpointing with segments of k layers.

    .. math:: \text{memory} = \lceil L / k \rceil + k, \quad \text{recomputed} = L - \lceil L / k \rceil

    Memory is least, about 2 sqrt(L), near k = sqrt(L). Recomputation is not: it is nearly all layers once more, a third
    of a step, where the source says sqrt(L). Layers of equal size are assumed.

    Args:
        num_layers: L.
        segment: k; the one of least memory if not given.

    Returns:
        Both, in layers.

    Raises:
        ValueError: unless 1 <= segment <= num_layers.

    Source:
        Chen et al. 2016, arXiv:1604.06174; "Intensive Intelligence: Mathematical Foundations", reversible computing.

    Example:
        >>> checkpoint_tradeoff(64)
        CheckpointTradeoff(memory=16, recomputed=56)
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    if segment is None:
        segment = _best_segment(num_layers)
    if not 1 <= segment <= num_layers:
        raise ValueError(f"segment must lie in [1, num_layers = {num_layers}], got {segment}")
    num_segments = -(-num_layers // segment)
    return CheckpointTradeoff(num_segments + segment, num_layers - num_segments)


def _best_segment(num_layers: int) -> int:
    """The smallest k of the least memory, which is ceil(2 sqrt(L)): the first with k (memory - k) >= L."""
    memory = math.isqrt(4 * num_layers - 1) + 1
    segment = (memory - math.isqrt(memory * memory - 4 * num_layers)) // 2
    while segment * (memory - segment) < num_layers:
        segment += 1
    return segment
