"""Numbers of a checkpoint in few bytes, to the bit."""

from __future__ import annotations

import zlib
from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def pack(values: Tensor) -> Tensor:
    """The bytes of a float64 tensor, compressed byte by byte: those of counts are mostly alike.

    Example:
        >>> counts = torch.arange(10_000, dtype=torch.float64) % 100  # of 8 bytes each
        >>> len(pack(counts)) < 8_000, bool((unpack(pack(counts), counts.shape) == counts).all())
        (True, True)
    """
    planes = values.cpu().contiguous().flatten().view(torch.uint8).view(-1, 8).t().contiguous()
    return torch.frombuffer(bytearray(zlib.compress(planes.numpy().tobytes(), 1)), dtype=torch.uint8)


def unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """What :func:`pack` got, whose shape is given.

    Raises:
        ValueError: if it is not of that shape.
    """
    size = 8 * prod(shape)
    content = zlib.decompressobj().decompress(packed.numpy().tobytes(), size + 1)
    if len(content) != size:
        raise ValueError(f"packed values of shape {list(shape)} must have {size} bytes, got {len(content)} or more")
    if not size:
        return torch.zeros(*shape, dtype=torch.float64)
    planes = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(8, -1)
    return planes.t().contiguous().flatten().view(torch.float64).view(*shape)
