"""Accuracy for what it costs: parameters, FLOPs, bytes, joules, training examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from intensive_callbacks.functional.checks import (
    as_count,
    as_float64,
    as_fraction,
    correct_for_chance,
    require_baseline,
    require_broadcast,
    require_positive,
)
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sums import unless_invalid

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "QWEN15_MMLU",
    "ReferenceFamily",
    "capability_density",
    "generalization_efficiency",
    "intelligence_density",
    "memory_efficiency_ratio",
    "net_score",
    "parameter_flop_efficiency",
    "performance_per_flop",
    "performance_per_joule",
    "performance_per_parameter",
    "reference_size",
]


def _points_per(
    accuracy: float | Tensor,
    cost: float,
    *,
    chance_corrected: bool,
    random_baseline: float | None,
) -> Tensor:
    fraction = as_fraction("accuracy", accuracy)
    if chance_corrected:
        fraction = correct_for_chance(fraction, require_baseline(random_baseline))
    return 100.0 * fraction / cost


@checked
def performance_per_parameter(
    accuracy: float | Tensor,
    num_params: float,
    *,
    chance_corrected: bool = False,
    random_baseline: float | None = None,
) -> Tensor:
    """Performance per parameter (P3): percent points of accuracy per 1e9 parameters.

    .. math:: P3 = 100 a / (N / 10^9)

    It falls about as 1/N, so between models of very different size it ranks the sizes.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_params: parameters, total or active: say which.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.

    Returns:
        Points per 1e9 parameters, of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``num_params`` is not above 0, or the correction lacks
            its baseline.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 1.

    Example:
        >>> performance_per_parameter(0.85, num_params=37e9)  # DeepSeek-V3, active
        tensor(2.2973, dtype=torch.float64)
    """
    billions = require_positive("num_params", num_params) / 1e9
    return _points_per(accuracy, billions, chance_corrected=chance_corrected, random_baseline=random_baseline)


@checked
def performance_per_flop(
    accuracy: float | Tensor,
    num_flops: float,
    *,
    chance_corrected: bool = False,
    random_baseline: float | None = None,
) -> Tensor:
    """Performance per FLOP (P2F): percent points of accuracy per 1e12 floating point operations.

    .. math:: P2F = 100 a / (F / 10^{12})

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_flops: floating point operations (1 MAC = 2) per token or per example: say which.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.

    Returns:
        Points per TFLOP, of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``num_flops`` is not above 0 (nearly always a counter
            that missed), or the correction lacks its baseline.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 2, whose tables are per GFLOP.

    Example:
        >>> performance_per_flop(0.76, num_flops=6 * 175e9)  # GPT-3, training
        tensor(72.3810, dtype=torch.float64)
    """
    teraflops = require_positive("num_flops", num_flops) / 1e12
    return _points_per(accuracy, teraflops, chance_corrected=chance_corrected, random_baseline=random_baseline)


@checked
def memory_efficiency_ratio(
    accuracy: float | Tensor,
    num_bytes: float,
    *,
    chance_corrected: bool = False,
    random_baseline: float | None = None,
) -> Tensor:
    """Memory efficiency ratio (MER): percent points of accuracy per GB of 1e9 bytes.

    .. math:: MER = 100 a / (B / 10^9)

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_bytes: bytes of one named scope: resident weights, peak inference or peak training.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.

    Returns:
        Points per GB, of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``num_bytes`` is not above 0, or the correction lacks
            its baseline.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 3.

    Example:
        >>> memory_efficiency_ratio(0.69, num_bytes=2 * 70e9)  # LLaMA-2-70B in 16 bits
        tensor(0.4929, dtype=torch.float64)
    """
    gigabytes = require_positive("num_bytes", num_bytes) / 1e9
    return _points_per(accuracy, gigabytes, chance_corrected=chance_corrected, random_baseline=random_baseline)


@checked
def performance_per_joule(
    accuracy: float | Tensor,
    num_joules: float,
    *,
    chance_corrected: bool = False,
    random_baseline: float | None = None,
) -> Tensor:
    """Performance per joule: percent points of accuracy per joule that one token, or one example, takes.

    .. math:: 100 a / J

    The energy is that of the machine it ran on as much as the model's: compare on one machine only.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_joules: energy per token or per example, of training or of inference: say which.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.

    Returns:
        Points per joule, of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1], ``num_joules`` is not above 0, or the correction lacks
            its baseline.

    Source:
        P2F of "Intensive Intelligence: Measurement Frameworks" with the energy for the cost.

    Example:
        >>> performance_per_joule(0.85, num_joules=0.02)
        tensor(4250., dtype=torch.float64)
    """
    joules = require_positive("num_joules", num_joules)
    return _points_per(accuracy, joules, chance_corrected=chance_corrected, random_baseline=random_baseline)


@checked
def parameter_flop_efficiency(accuracy: float | Tensor, num_params: float, num_flops: float) -> Tensor:
    r"""Accuracy over parameters and FLOPs: percent points per 1e9 parameters and 1e12 floating point operations.

    .. math:: \frac{100 a}{(N / 10^9)(F / 10^{12})}

    FLOPs grow with N, so it falls about as 1/N^2: of two models, the one of a tenth of the size wins unless the other
    is a hundred times as accurate, which no accuracy above chance allows. It ranks sizes, not merit.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_params: parameters, total or active: say which.
        num_flops: floating point operations (1 MAC = 2) per token or per example: say which.

    Returns:
        Of the shape of ``accuracy``.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1] or a count is not above 0.

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 1.

    Example:
        >>> parameter_flop_efficiency(0.5, num_params=7e9, num_flops=14e9)
        tensor(510.2041, dtype=torch.float64)
    """
    cost = require_positive("num_params", num_params) / 1e9 * (require_positive("num_flops", num_flops) / 1e12)
    return 100.0 * as_fraction("accuracy", accuracy) / cost


@checked
def net_score(accuracy: float | Tensor, num_params: float, num_flops: float) -> Tensor:
    r"""NetScore: accuracy against parameters and operations, in decibels.

    .. math:: 20 \log_{10} \frac{A^2}{\sqrt{p} \sqrt{m}}

    with A in percent, p in millions of parameters and m in 1e9 multiply-adds (half the FLOPs); other units shift every
    score alike. Ten times the size at twice that times the operations costs 20 dB, twice the accuracy brings 12.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        num_params: parameters.
        num_flops: floating point operations (1 MAC = 2) of one inference.

    Returns:
        Decibels, of the shape of ``accuracy``; -inf at accuracy 0.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1] or a count is not above 0.

    Source:
        Wong 2018, arXiv:1806.05512.

    Example:
        >>> net_score(0.761, num_params=25.6e6, num_flops=8.2e9)  # ResNet-50
        tensor(55.0451, dtype=torch.float64)
    """
    millions = require_positive("num_params", num_params) / 1e6
    multiply_adds = require_positive("num_flops", num_flops) / 2e9
    percent = 100.0 * as_fraction("accuracy", accuracy)
    return 40.0 * percent.log10() - 10.0 * math.log10(millions * multiply_adds)


@checked
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
        count = as_count("num_examples", num_examples)
        require_broadcast(accuracy=fraction, num_examples=count)
        fraction = torch.where(fraction == 1, 1.0 - 0.5 / (count + 1.0), fraction)
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


@checked
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
    if not isinstance(reference, ReferenceFamily):
        raise TypeError(f"reference must be a ReferenceFamily, got {type(reference).__name__}")
    fraction = as_fraction("accuracy", accuracy)
    gain = correct_for_chance(fraction, reference.random_baseline)
    size = 1e9 * ((torch.special.logit(gain) - reference.intercept) / reference.slope).exp()
    reached = (fraction >= reference.lowest) & (fraction <= reference.highest)
    return torch.where(reached, size, torch.nan)


@checked
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


@checked
def generalization_efficiency(num_examples: Tensor, accuracy: Tensor) -> Tensor:
    """Generalization efficiency (GE): what the second half of the training examples brought, per example.

    .. math:: GE = 100 (a_N - a_{N/2}) / (N / 2)

    N is the largest size. Where no size is exactly N/2, its accuracy is interpolated, linearly in the logarithm of the
    size; accuracies at the same size are averaged. It falls as 1/N or faster on every learning curve, so compare models
    at the same N; :func:`learning_curve` has the exponent, which can be compared between sizes.

    Args:
        num_examples: ``[P]`` training examples, each seen once; pairs that are not finite or not above 0 are left out.
        accuracy: ``[P]`` fractions in [0, 1] reached with them.

    Returns:
        Percent points per example, a scalar; NaN where no size is at most half of the largest, or where an accuracy
        lies outside [0, 1].

    Raises:
        ValueError: if the shapes differ.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 10.

    Example:
        >>> generalization_efficiency(torch.tensor([500_000, 1_000_000]), torch.tensor([0.70, 0.85]))
        tensor(3.0000e-05, dtype=torch.float64)
    """
    sizes, accuracies = data_pairs(num_examples, accuracy)
    if sizes.numel() == 0:
        return as_float64(torch.nan)
    usable = sizes.isfinite() & accuracies.isfinite() & (sizes > 0)

    def at(size: Tensor) -> Tensor:
        here = usable & (sizes == size)
        return torch.where(here, accuracies, 0.0).sum() / here.sum()

    largest = torch.where(usable, sizes, -torch.inf).amax()
    half = largest / 2
    below = torch.where(usable & (sizes <= half), sizes, -torch.inf).amax()
    above = torch.where(usable & (sizes >= half), sizes, torch.inf).amin()
    share = torch.where(above > below, (half / below).log() / (above / below).log(), 0.0)
    value = 100.0 * (at(largest) - torch.lerp(at(below), at(above), share)) / half
    return unless_invalid(value, ((accuracies < 0) | (accuracies > 1)).sum())


def data_pairs(num_examples: Tensor, accuracy: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64; their shapes must be the same."""
    if num_examples.shape != accuracy.shape:
        raise ValueError(
            "num_examples and accuracy must be pairs, of the same shape, "
            f"got {tuple(num_examples.shape)} and {tuple(accuracy.shape)}"
        )
    return as_float64(num_examples), as_float64(accuracy)
