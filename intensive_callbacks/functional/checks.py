"""What every quantity asks of its arguments: values and shapes. ``signatures.py`` checks their types."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# An integer may be larger than any float: the comparison is exact, a conversion would raise an OverflowError.
LARGEST = torch.finfo(torch.float64).max

LARGEST_TABLE = 2**28
"""Cells of the largest table of counts, 2 GiB."""


def as_fraction(name: str, value: float | Tensor) -> Tensor:
    """``value`` as a float64 tensor; a Python number outside [0, 1] raises.

    An element of a tensor that lies outside becomes NaN: an error would have to wait for the device.
    """
    if not isinstance(value, Tensor):
        require_fraction(name, value)
        return as_float64(value)
    fraction = as_float64(value)
    return torch.where((fraction >= 0) & (fraction <= 1), fraction, torch.nan)


def require_fraction(name: str, value: float) -> None:
    """A number must lie in [0, 1] or be NaN."""
    if not (0.0 <= value <= 1.0 or _is_nan(value)):
        raise ValueError(f"{name} must be a fraction in [0, 1], got {_shown(value)}; divide percent by 100")


def as_float64(value: float | Tensor) -> Tensor:
    """``value`` as a tensor in float64, or in float32 on a device that has no float64."""
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=torch.float64)
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)


def as_scalar(name: str, value: Tensor) -> Tensor:
    """A tensor of one element as a float64 scalar, without its graph."""
    if value.numel() != 1:
        raise ValueError(f"{name} must be one number, got {tuple(value.shape)}; take the mean, or update for each")
    return as_float64(value.detach()).reshape(())


def require_positive(name: str, value: float) -> float:
    """``value``, which must be a finite number above zero."""
    if not 0 < value <= LARGEST:
        raise ValueError(f"{name} must be a finite number above 0, got {_shown(value)}")
    return value


def as_count(name: str, value: float | Tensor) -> Tensor:
    """``value`` as a float64 tensor; a Python number that is negative or not finite raises."""
    if not isinstance(value, Tensor) and not (0 <= value <= LARGEST or _is_nan(value)):
        raise ValueError(f"{name} must be a finite number of at least 0, got {_shown(value)}")
    return as_float64(value)


def _is_nan(value: float) -> bool:
    return value != value  # noqa: PLR0124 - math.isnan would convert a large integer


def _shown(value: float) -> str:
    return str(value) if abs(value) <= LARGEST or not isinstance(value, int) else "an integer too large for a float"


def require_baseline(random_baseline: float | None) -> float:
    """``random_baseline``, which must be a fraction above zero and below one."""
    if random_baseline is None or not 0.0 < random_baseline < 1.0:
        raise ValueError(
            f"random_baseline must be a fraction in (0, 1), the accuracy of chance, got {random_baseline}; "
            "for balanced classes it is 1 / number of classes"
        )
    return random_baseline


def require_confidence(confidence: float) -> None:
    """The confidence of an interval must be above zero and below one."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), as 0.95 does, got {confidence}")


def correct_for_chance(accuracy: Tensor, random_baseline: float) -> Tensor:
    """(accuracy - r) / (1 - r): 0 at chance, 1 when perfect, negative below chance."""
    return (accuracy - random_baseline) / (1.0 - random_baseline)


def uncertain(accuracy: Tensor, num_examples: float | Tensor) -> Tensor:
    """An accuracy whose binomial error is not 0: n examples, all right or all wrong, do not prove certainty.

    There it is taken at (k + 1/2) / (n + 1), k of n being right.
    """
    certain = (accuracy == 0) | (accuracy == 1)
    return torch.where(certain, (accuracy * num_examples + 0.5) / (num_examples + 1), accuracy)


def require_ids(name: str, ids: Tensor) -> None:
    """Ids must be integers; a mask or weights in their place are an error."""
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {ids.dtype}; pass the ids, not the weights")


def require_layout(name: str, value: Tensor, layout: str, num_dims: int = 1) -> None:
    """A tensor must have the dimensions at the end of its layout, none of them empty."""
    if value.dim() < num_dims or 0 in value.shape[value.dim() - num_dims :]:
        raise ValueError(f"{name} must be {layout}, got {tuple(value.shape)}")


def require_square(name: str, matrix: Tensor) -> None:
    """The last two dimensions of a matrix must be of one size."""
    require_layout(name, matrix, "square, [..., d, d]", 2)
    if matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"{name} must be square, [..., d, d], got {tuple(matrix.shape)}")


def require_one_shape(names: tuple[str, str], first: Tensor, second: Tensor, must: str = "have the same shape") -> None:
    """Two tensors that belong together element by element must have one shape."""
    if first.shape != second.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must {must}, got shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )


def require_broadcast(**tensors: Tensor) -> None:
    """Tensors that are combined element by element must have shapes that broadcast."""
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    try:
        torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ValueError(f"{' and '.join(tensors)} must have shapes that broadcast, got {shapes}") from error


def require_cells(names: str, *sizes: int) -> None:
    """A table must have at least one cell and fit into memory."""
    if min(sizes) < 1:
        raise ValueError(f"{names} must be at least 1, got {', '.join(map(str, sizes))}")
    if math.prod(sizes) > LARGEST_TABLE:
        raise ValueError(f"{names} must make a table of at most 2**28 cells, got {' x '.join(map(str, sizes))}")


def require_token_mask(mask: Tensor | None, name: str, of: Tensor) -> None:
    """A mask of tokens must have the one dimension over which tokens are summed."""
    if mask is not None and mask.shape != of.shape[:1]:
        raise ValueError(f"mask must be [T] for {name} {tuple(of.shape)}, got {tuple(mask.shape)}")


def require_mask(mask: Tensor | None, name: str, of: Tensor) -> None:
    """A mask must have the leading dimensions of what it masks."""
    if mask is not None and mask.shape != of.shape[: mask.dim()]:
        raise ValueError(f"mask must have the leading shape of {name} {tuple(of.shape)}, got {tuple(mask.shape)}")
