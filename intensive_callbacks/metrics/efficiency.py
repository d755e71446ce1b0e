"""Accuracy for what it costs, as metrics: :mod:`intensive_callbacks.functional.efficiency` has the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intensive_callbacks.functional import efficiency
from intensive_callbacks.functional.checks import require_baseline, require_positive
from intensive_callbacks.metrics.base import AccuracyMetric

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MemoryEfficiencyRatio", "PerformancePerFlop", "PerformancePerJoule", "PerformancePerParameter"]


class _PointsPerCost(AccuracyMetric):
    def __init__(self, *, chance_corrected: bool, random_baseline: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.correction: dict[str, Any] = {
            "chance_corrected": chance_corrected,
            "random_baseline": require_baseline(random_baseline) if chance_corrected else None,
        }


class PerformancePerParameter(_PointsPerCost):
    """Performance per parameter (P3), in percent points per 1e9 parameters.

    .. math:: P3 = 100 a / (N / 10^9)

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted.

    Args:
        num_params: parameters, total or active: say which. The callback gives the active ones.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_params`` is not above 0 or the correction lacks its baseline; on update, if an accuracy is
            a number outside [0, 1]; on compute, if one was a tensor outside.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 1.

    Example:
        >>> from intensive_callbacks import PerformancePerParameter
        >>> p3 = PerformancePerParameter(num_params=37_000_000_000)
        >>> p3.update(0.85, num_examples=14_042)
        >>> p3.compute(), p3.standard_error()
        (tensor(2.2973, dtype=torch.float64), tensor(0.0081, dtype=torch.float64))
    """

    plot_lower_bound = 0.0

    def __init__(
        self,
        num_params: float,
        *,
        chance_corrected: bool = False,
        random_baseline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(chance_corrected=chance_corrected, random_baseline=random_baseline, **kwargs)
        self.num_params = require_positive("num_params", num_params)

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.performance_per_parameter(accuracy, self.num_params, **self.correction)


class PerformancePerFlop(_PointsPerCost):
    """Performance per FLOP (P2F), in percent points per 1e12 floating point operations.

    .. math:: P2F = 100 a / (F / 10^{12})

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted.

    Args:
        num_flops: floating point operations (1 MAC = 2) per token or per example: say which. The callback gives what
            it measured of a forward pass.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_flops`` is not above 0 or the correction lacks its baseline; on update, if an accuracy is a
            number outside [0, 1]; on compute, if one was a tensor outside.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 2.

    Example:
        >>> from intensive_callbacks import PerformancePerFlop
        >>> p2f = PerformancePerFlop(num_flops=6 * 175e9)
        >>> p2f.update(0.76)
        >>> p2f.compute()
        tensor(72.3810, dtype=torch.float64)
    """

    plot_lower_bound = 0.0

    def __init__(
        self,
        num_flops: float,
        *,
        chance_corrected: bool = False,
        random_baseline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(chance_corrected=chance_corrected, random_baseline=random_baseline, **kwargs)
        self.num_flops = require_positive("num_flops", num_flops)

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.performance_per_flop(accuracy, self.num_flops, **self.correction)


class MemoryEfficiencyRatio(_PointsPerCost):
    """Memory efficiency ratio (MER), in percent points per GB of 1e9 bytes.

    .. math:: MER = 100 a / (B / 10^9)

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted.

    Args:
        num_bytes: bytes of one named scope: resident weights (what the callback gives), peak inference, peak training.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_bytes`` is not above 0 or the correction lacks its baseline; on update, if an accuracy is a
            number outside [0, 1]; on compute, if one was a tensor outside.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 3.

    Example:
        >>> from intensive_callbacks import MemoryEfficiencyRatio
        >>> mer = MemoryEfficiencyRatio(num_bytes=2 * 70e9)
        >>> mer.update(0.69)
        >>> mer.compute()
        tensor(0.4929, dtype=torch.float64)
    """

    plot_lower_bound = 0.0

    def __init__(
        self,
        num_bytes: float,
        *,
        chance_corrected: bool = False,
        random_baseline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(chance_corrected=chance_corrected, random_baseline=random_baseline, **kwargs)
        self.num_bytes = require_positive("num_bytes", num_bytes)

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.memory_efficiency_ratio(accuracy, self.num_bytes, **self.correction)


class PerformancePerJoule(_PointsPerCost):
    """Performance per joule, in percent points per joule that one token, or one example, takes.

    .. math:: 100 a / J

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted.
    The energy is that of the machine as much as the model's: compare on one machine only.

    Args:
        num_joules: energy per token or per example: say which. The callback gives that of training, forward, backward
            and optimizer, as the GPUs' own counters read it; without such a counter the value is absent.
        chance_corrected: use (a - r) / (1 - r) for the accuracy.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_joules`` is not above 0 or the correction lacks its baseline; on update, if an accuracy is
            a number outside [0, 1]; on compute, if one was a tensor outside.

    Source:
        P2F of "Intensive Intelligence: Measurement Frameworks" with the energy for the cost.

    Example:
        >>> from intensive_callbacks import PerformancePerJoule
        >>> per_joule = PerformancePerJoule(num_joules=0.02)
        >>> per_joule.update(0.85)
        >>> per_joule.compute()
        tensor(4250., dtype=torch.float64)
    """

    plot_lower_bound = 0.0

    def __init__(
        self,
        num_joules: float,
        *,
        chance_corrected: bool = False,
        random_baseline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(chance_corrected=chance_corrected, random_baseline=random_baseline, **kwargs)
        self.num_joules = require_positive("num_joules", num_joules)

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.performance_per_joule(accuracy, self.num_joules, **self.correction)
