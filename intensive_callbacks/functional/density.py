"""Capability per byte and per parameter: densities of what a model has learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from intensive_callbacks.functional.checks import (
    as_float64,
    as_fraction,
    correct_for_chance,
    require_baseline,
    require_positive,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QWEN15_MMLU", "ReferenceFamily", "capability_density", "intelligence_density", "reference_size"]


def intelligence_density(
    accuracy: float | Tensor,
    num_bytes: float,
    *,
    base: float = math.e,
    num_examples: float | Tensor | None = None,
    chance_corrected: bool = False,
    random_baseline: float | None = None,
) -> Tensor:
    r"""Intelligence density: the negative logarithm of the error rate, per GB of 1e9 bytes.

    .. math:: D = -\ln(1 - a) / (B / 10^9)

    It is above 0 at chance: correct for it to compare models near chance. It falls about as 1/B. Published values use
    natural logarithms or, some of them, base 2, which is 1.4427 times as much.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_bytes: bytes of the stored weights.
        base: of the logarithm; e gives nats, 2 gives bits.
        num_examples: n, the examples behind the accuracy. Where all of them were right the error is then taken at
            (0 + 1/2) / (n + 1), since n examples do not prove that there is none; without n the density is infinite.
        chance_corrected: use ln((1 - r) / (1 - a)), the excess over the density of chance: 0 at chance, negative below.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.

    Returns:
        Nats (or what ``base`` makes of them) per GB, of the shape of ``accuracy``; in [0, inf] without the correction.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``num_bytes`` is not above 0, ``base`` is no base of a
            logarithm, or the correction lacks its baseline.

    Source:
        "The Intelligence Density Metric"; the natural logarithm is that of the 1-bit Bonsai 8B whitepaper.

    Example:
        >>> intelligence_density(0.705, num_bytes=1.15e9)  # 1-bit Bonsai 8B
        tensor(1.0615, dtype=torch.float64)
    """
    gigabytes = require_positive("num_bytes", num_bytes) / 1e9
    if require_positive("base", base) == 1:
        raise ValueError("base must not be 1, which is the base of no logarithm; use e for nats, 2 for bits")
    fraction = as_fraction("accuracy", accuracy)
    if num_examples is not None:
        fraction = torch.where(fraction == 1, 1.0 - 0.5 / (as_float64(num_examples) + 1.0), fraction)
    nats = -(-fraction).log1p()
    if chance_corrected:
        nats = nats + math.log1p(-require_baseline(random_baseline))
    return nats / (math.log(base) * gigabytes)


@dataclass(frozen=True)
class ReferenceFamily:
    """How the accuracy of a family of like models grows with their size.

    logit((a - r) / (1 - r)) = intercept + slope · ln(N / 1e9), for accuracies a in [lowest, highest], which are
    those of its smallest and of its largest model.
    """

    intercept: float
    slope: float
    random_baseline: float
    lowest: float
    highest: float


#: Qwen1.5 on MMLU, five shots (R^2 = 0.979): from the 0.5e9 model's 39.35 % to the 72e9 model's 77.2 %.
QWEN15_MMLU = ReferenceFamily(intercept=-1.039, slope=0.464, random_baseline=0.25, lowest=0.3935, highest=0.772)


def reference_size(accuracy: float | Tensor, reference: ReferenceFamily = QWEN15_MMLU) -> Tensor:
    """The size at which a reference family reaches an accuracy.

    Args:
        accuracy: fraction in [0, 1], of any shape, on the benchmark of the reference.
        reference: the family; by default Qwen1.5 on MMLU.

    Returns:
        Parameters, of the shape of ``accuracy``; NaN outside the accuracies of the family.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1].

    Example:
        >>> reference_size(0.6197) / 1e9  # Qwen1.5-7B
        tensor(8.8313, dtype=torch.float64)
    """
    fraction = as_fraction("accuracy", accuracy)
    gain = correct_for_chance(fraction, reference.random_baseline)
    size = 1e9 * ((torch.special.logit(gain) - reference.intercept) / reference.slope).exp()
    reached = (fraction >= reference.lowest) & (fraction <= reference.highest)
    return torch.where(reached, size, torch.nan)


def capability_density(accuracy: float | Tensor, num_params: float, reference: ReferenceFamily = QWEN15_MMLU) -> Tensor:
    """Capability density: the size a reference family needs for this accuracy, over this model's size.

    1 for a model of the reference family, 2 for one that does the same with half the parameters. It does not rank
    models by smallness, as accuracy per parameter does, but it has a meaning only on the benchmark of its reference.

    Args:
        accuracy: fraction in [0, 1], of any shape, on the benchmark of the reference: by default MMLU.
        num_params: parameters, total or active: say which.
        reference: the family to compare with; by default Qwen1.5 on MMLU.

    Returns:
        A plain number, of the shape of ``accuracy``; NaN outside the accuracies of the family, so at chance too.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1] or ``num_params`` is not above 0.

    Source:
        Xiao et al., "Densing law of LLMs", arXiv 2412.04315.

    Example:
        >>> capability_density(0.666, num_params=8e9)  # Llama-3-8B
        tensor(1.8831, dtype=torch.float64)
    """
    return reference_size(accuracy, reference) / require_positive("num_params", num_params)
