"""Accuracy for what it costs: per parameter, per FLOP, per byte, per joule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intensive_callbacks.functional.checks import as_fraction, correct_for_chance, require_baseline, require_positive

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["memory_efficiency_ratio", "performance_per_flop", "performance_per_joule", "performance_per_parameter"]


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
