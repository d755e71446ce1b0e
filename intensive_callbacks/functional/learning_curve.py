"""The power law of a learning curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from intensive_callbacks.functional.efficiency import data_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["PowerLaw", "learning_curve"]


class PowerLaw(NamedTuple):
    """error = scale · n^-exponent + floor, with an interval for the exponent."""

    exponent: float
    scale: float
    floor: float
    low: float
    high: float


def learning_curve(
    num_examples: Tensor,
    accuracy: Tensor,
    *,
    confidence: float = 0.95,
) -> PowerLaw:
    """The power law of a learning curve: error = a n^-b + c, fitted by least squares with a, c >= 0.

    The exponent b is what a learning curve has that does not depend on how far it was followed. Its interval is that
    of the profile likelihood with Student's t of P - 3 degrees of freedom: all exponents whose best fit is not
    significantly worse. With four sizes it is wide, and often open. Needs scipy.

    Args:
        num_examples: ``[P]`` training examples; pairs that are not finite or not above 0 are left out.
        accuracy: ``[P]`` fractions in [0, 1] reached with them.
        confidence: of the interval.

    Returns:
        The fit; an end of the interval outside (0.01, 4) is 0 or infinite. All NaN with fewer than four sizes, with
        sizes that span less than a decade, or where no exponent in (0.01, 4) fits best.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Hestness et al. 2017, "Deep learning scaling is predictable, empirically", arXiv 1712.00409.

    Example:
        >>> sizes = torch.tensor([1e3, 3e3, 1e4, 3e4, 1e5])
        >>> law = learning_curve(sizes, 1 - (2 * sizes**-0.35 + 0.05))
        >>> round(law.exponent, 3), round(law.floor, 3)
        (0.35, 0.05)
    """
    from scipy.stats import t as student

    sizes, accuracies = data_pairs(num_examples, accuracy)
    usable = sizes.isfinite() & accuracies.isfinite() & (sizes > 0)
    sizes, error = sizes[usable].cpu(), 1.0 - accuracies[usable].cpu()
    if len(set(sizes.tolist())) < 4 or sizes.amax() < 10 * sizes.amin():
        return PowerLaw(*[math.nan] * 5)
    # In units of the geometric mean the two columns of the fit, x^-b and 1, are of like size.
    unit = sizes.log().mean().exp()
    fit, misfit_of = _power_law_fit(sizes / unit)
    exponent, scale, floor = fit(error[None])
    if not 0.0101 < exponent < 3.99:
        return PowerLaw(*[math.nan] * 5)
    grid = torch.logspace(-2, math.log10(4.0), 4001, dtype=torch.float64)
    misfit, least = misfit_of(error[None], grid[None])[0], misfit_of(error[None], exponent[None, None])[0, 0]
    num_free = len(sizes) - 3
    allowed = least * (1 + student.ppf((1 + confidence) / 2, num_free) ** 2 / num_free)
    fitting = grid[misfit <= allowed + torch.finfo(misfit.dtype).eps]
    ends = fitting[[0, -1]] if len(fitting) else exponent.expand(2)
    low = 0.0 if ends[0] == grid[0] else float(ends[0])
    high = math.inf if ends[1] == grid[-1] else float(ends[1])
    return PowerLaw(float(exponent), float(scale * unit**exponent), float(floor), low, high)


def _power_law_fit(
    sizes: Tensor,
) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], Callable[[Tensor, Tensor], Tensor]]:
    """Functions from errors ``[R, P]`` to the least-squares (b, a, c) of each row, and to the misfit at given b.

    For a given b the law is linear in a and c, so only b is searched for: a grid, refined around its best point.
    """

    def solve(error: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        column = sizes ** -exponent[..., None]  # [R, G, P]
        error = error[:, None]
        centered = column - column.mean(-1, keepdim=True)
        scale = ((centered * error).sum(-1) / centered.square().sum(-1)).clamp_min(0.0)
        floor = error.mean(-1) - scale * column.mean(-1)
        without_floor = (column * error).sum(-1) / column.square().sum(-1)
        scale = torch.where(floor < 0, without_floor, scale)
        floor = floor.clamp_min(0.0)
        misfit = (error - scale[..., None] * column - floor[..., None]).square().sum(-1)
        return misfit, scale, floor

    def fit(error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        center, width = math.log(0.2) * error.new_ones(len(error), 1), math.log(20.0)
        for points in (201, 21, 21, 21, 21):
            grid = (center + width * torch.linspace(-1, 1, points, dtype=error.dtype)).exp()
            misfit, scale, floor = solve(error, grid)
            best = misfit.argmin(-1, keepdim=True)
            center, width = grid.gather(-1, best).log(), 2 * width / (points - 1)
        return (
            grid.gather(-1, best).squeeze(),
            scale.gather(-1, best).squeeze(),
            floor.gather(-1, best).squeeze(),
        )

    return fit, lambda error, exponent: solve(error, exponent)[0]
