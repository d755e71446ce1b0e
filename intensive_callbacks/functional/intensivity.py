"""Whether a metric is intensive: how it moves with size, measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from intensive_callbacks.functional.checks import require_confidence
from intensive_callbacks.functional.signatures import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["SizeExponent", "size_exponent"]

Model = TypeVar("Model")


class SizeExponent(NamedTuple):
    """How a metric moves with size, as :func:`size_exponent` fits it.

    Attributes:
        exponent: the slope of ln value over ln size.
        low: the lower end of its interval.
        high: the upper end.
    """

    exponent: float
    low: float
    high: float


@checked
def size_exponent(
    metric: Callable[[Model], Any],
    family: Iterable[tuple[float, Model]],
    *,
    confidence: float = 0.95,
) -> SizeExponent:
    r"""The exponent of a metric in the size of a model: 0 if it is intensive, 1 if extensive, -1 for a plain ratio.

    .. math:: \frac{d \ln \text{metric}}{d \ln \text{size}}

    It is as good as the family: models that differ in size alone, with their behavior unchanged (function-preserving
    widening, duplicated experts, identity blocks), give the metric's own exponent; published models of one family also
    differ in what they can do, and give the exponent of both. Least squares, with an interval of Student's t that takes
    the models as independent. Needs scipy.

    Args:
        metric: from a model to a number or scalar tensor.
        family: pairs of a size (parameters, experts, layers: say which) and a model, or what stands for one.
        confidence: of the interval.

    Returns:
        The exponent and its interval, which is unbounded for two models; all NaN where a value is not above 0.

    Raises:
        ValueError: for fewer than two different sizes, or a size that is not above 0.

    Source:
        Not in the sources: they call every one of their metrics intensive.

    Example:
        >>> from intensive_callbacks.functional import performance_per_parameter
        >>> family = [(size, size) for size in (1e9, 2e9, 4e9, 8e9)]
        >>> round(size_exponent(lambda num_params: performance_per_parameter(0.7, num_params), family).exponent, 6)
        -1.0
    """
    from scipy.stats import linregress
    from scipy.stats import t as student

    require_confidence(confidence)
    pairs = [(float(size), float(metric(model))) for size, model in family]
    sizes, values = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(-1)
    if len(set(sizes.tolist())) < 2 or not bool((sizes > 0).all()):
        raise ValueError(f"need at least two different sizes above 0, got {sizes.tolist()}")
    if not bool((values > 0).all()):
        return SizeExponent(math.nan, math.nan, math.nan)
    fit = linregress(sizes.log().numpy(), values.log().numpy())
    if len(pairs) == 2:
        return SizeExponent(float(fit.slope), -math.inf, math.inf)
    error = float(fit.stderr * student.ppf((1 + confidence) / 2, len(pairs) - 2))
    return SizeExponent(float(fit.slope), float(fit.slope) - error, float(fit.slope) + error)
