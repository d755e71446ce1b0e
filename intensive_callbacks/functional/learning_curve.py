"""The power law of a learning curve."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch

from intensive_callbacks.functional.checks import require_confidence
from intensive_callbacks.functional.efficiency import data_pairs
from intensive_callbacks.functional.signatures import checked

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


@checked
def learning_curve(
    num_examples: Tensor, accuracy: Tensor, *, confidence: float = 0.95, num_resamples: int | None = None
) -> PowerLaw:
    """The power law of a learning curve: error = a n^-b + c, fitted by least squares with a, c >= 0.

    The exponent b is what a learning curve has that does not depend on how far it was followed. Its interval is that of
    the profile likelihood with Student's t for the P - 3 residuals that three fitted parameters leave: all b whose best
    fit has at most 1 + t² / (P - 3) times the least sum of squares. Few sizes make it wide, and an end beyond the
    exponents that are searched is 0 or infinite. Needs scipy.

    Args:
        num_examples: ``[P]`` training examples; pairs that are not finite or not above 0 are left out.
        accuracy: ``[P]`` fractions in [0, 1] reached with them.
        confidence: of the interval.
        num_resamples: deprecated and ignored; the interval is no longer a bootstrap's. Removed in 0.3.

    Returns:
        The fit; all NaN with fewer than four sizes, with sizes that span less than a decade, or where no exponent in
        (0.01, 4) fits best.

    Raises:
        ValueError: if the shapes differ, an accuracy lies outside [0, 1] or ``confidence`` outside (0, 1).

    Source:
        Hestness et al. 2017, "Deep learning scaling is predictable, empirically", arXiv 1712.00409.

    Example:
        >>> sizes = torch.tensor([1e3, 3e3, 1e4, 3e4, 1e5])
        >>> law = learning_curve(sizes, 1 - (2 * sizes**-0.35 + 0.05))
        >>> round(law.exponent, 3), round(law.floor, 3)
        (0.35, 0.05)
    """
    if num_resamples is not None:
        warnings.warn(
            "learning_curve ignores num_resamples and will lose it in 0.3: its interval is no longer a bootstrap's",
            DeprecationWarning,
            stacklevel=2,
        )
    require_confidence(confidence)
    sizes, accuracies = data_pairs(num_examples, accuracy)
    if bool(((accuracies < 0) | (accuracies > 1)).any()):
        raise ValueError("accuracy must hold fractions in [0, 1]; divide percent by 100")
    usable = sizes.isfinite() & accuracies.isfinite() & (sizes > 0)
    sizes, error = sizes[usable].cpu(), 1.0 - accuracies[usable].cpu()
    if len(set(sizes.tolist())) < 4 or sizes.amax() < 10 * sizes.amin():
        return PowerLaw(*[math.nan] * 5)
    # In units of the geometric mean the two columns of the fit, x^-b and 1, are of like size.
    unit = sizes.log().mean().exp()
    fit = _power_law_fit(sizes / unit)
    exponent, scale, floor = fit(error[None])
    if not 0.0101 < exponent < 3.99:
        return PowerLaw(*[math.nan] * 5)
    low, high = _profile_interval(sizes / unit, error, float(exponent), confidence)
    return PowerLaw(*(float(x) for x in (exponent, scale * unit**exponent, floor, low, high)))


def _power_law_fit(sizes: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """A function from errors ``[R, P]`` to the least-squares (b, a, c) of each row.

    Only b is searched for: a grid, refined around its best point.
    """

    def fit(error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        center, width = math.log(0.2) * error.new_ones(len(error), 1), math.log(20.0)
        for points in (201, 21, 21, 21, 21):
            grid = (center + width * torch.linspace(-1, 1, points, dtype=error.dtype)).exp()
            misfit, scale, floor = _at_exponents(sizes, error, grid)
            best = misfit.argmin(-1, keepdim=True)
            center, width = grid.gather(-1, best).log(), 2 * width / (points - 1)
        return (
            grid.gather(-1, best).squeeze(),
            scale.gather(-1, best).squeeze(),
            floor.gather(-1, best).squeeze(),
        )

    return fit


def _at_exponents(sizes: Tensor, error: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The misfit and the best a and c for given b, in which the law is linear: ``[R, G]`` of errors ``[R, P]``."""
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


def _profile_interval(sizes: Tensor, error: Tensor, exponent: float, confidence: float) -> tuple[float, float]:
    """All exponents whose best fit is not much worse than that of the least-squares ``exponent``, by Student's t."""
    from scipy.stats import t as student

    degrees = len(sizes) - 3
    most = 1 + float(student.ppf((1 + confidence) / 2, degrees)) ** 2 / degrees
    grid = torch.linspace(math.log(0.01), math.log(4.0), 4001, dtype=error.dtype).exp()
    misfit = _at_exponents(sizes, error[None], grid[None])[0][0]
    least = min(float(misfit.amin()), float(_at_exponents(sizes, error[None], grid.new_full((1, 1), exponent))[0]))
    inside = (misfit <= max(most * least, float(misfit.amin()))).nonzero().flatten()
    first, last = int(inside[0]), int(inside[-1])
    return (
        0.0 if first == 0 else min(float(grid[first]), exponent),
        math.inf if last == len(grid) - 1 else max(float(grid[last]), exponent),
    )
