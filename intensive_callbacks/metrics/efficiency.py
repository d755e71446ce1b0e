"""Accuracy for what it costs, as metrics: ``functional/efficiency.py`` has the mathematics."""

import math
from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import efficiency
from intensive_callbacks.functional.checks import as_float64, as_fraction, require_baseline, require_positive
from intensive_callbacks.functional.learning_curve import PowerLaw, learning_curve
from intensive_callbacks.metrics.base import AccuracyMetric, SampleMetric, companion

__all__ = [
    "CapabilityDensity",
    "GeneralizationEfficiency",
    "IntelligenceDensity",
    "MemoryEfficiencyRatio",
    "NetScore",
    "ParameterFlopEfficiency",
    "PerformancePerFlop",
    "PerformancePerJoule",
    "PerformancePerParameter",
]


class _PointsPerCost(AccuracyMetric):
    def __init__(self, *, chance_corrected: bool, random_baseline: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chance_corrected = chance_corrected
        self.random_baseline = require_baseline(random_baseline) if chance_corrected else None

    def correction(self) -> dict[str, Any]:
        """How the accuracy is corrected for chance, as arguments of the functions."""
        return {"chance_corrected": self.chance_corrected, "random_baseline": self.random_baseline}


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
        (tensor(2.2973), tensor(0.0081, dtype=torch.float64))
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
        return efficiency.performance_per_parameter(accuracy, self.num_params, **self.correction())


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
        tensor(72.3810)
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
        return efficiency.performance_per_flop(accuracy, self.num_flops, **self.correction())


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
        tensor(0.4929)
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
        return efficiency.memory_efficiency_ratio(accuracy, self.num_bytes, **self.correction())


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
        tensor(4250.)
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
        return efficiency.performance_per_joule(accuracy, self.num_joules, **self.correction())


class _AccuracyForBoth(AccuracyMetric):
    def __init__(self, num_params: float, num_flops: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_params = require_positive("num_params", num_params)
        self.num_flops = require_positive("num_flops", num_flops)


class ParameterFlopEfficiency(_AccuracyForBoth):
    r"""Accuracy over parameters and FLOPs: percent points per 1e9 parameters and 1e12 floating point operations.

    .. math:: \frac{100 a}{(N / 10^9)(F / 10^{12})}

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted. It
    falls about as 1/N^2: it ranks sizes, not merit.

    Args:
        num_params: parameters, total or active: say which. The callback gives the active ones.
        num_flops: floating point operations (1 MAC = 2) per token or per example: say which.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a count is not above 0; on update, if an accuracy is a number outside [0, 1].

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 1.

    Example:
        >>> from intensive_callbacks import ParameterFlopEfficiency
        >>> efficiency = ParameterFlopEfficiency(num_params=7e9, num_flops=14e9)
        >>> efficiency.update(0.5)
        >>> efficiency.compute()
        tensor(510.2041)
    """

    plot_lower_bound = 0.0

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.parameter_flop_efficiency(accuracy, self.num_params, self.num_flops)


class NetScore(_AccuracyForBoth):
    r"""NetScore: accuracy against parameters and operations, in decibels.

    .. math:: 20 \log_{10} \frac{A^2}{\sqrt{p} \sqrt{m}}

    with A in percent, p in millions of parameters and m in 1e9 multiply-adds. ``update(accuracy, num_examples=None)``
    takes a fraction in [0, 1] and the examples it stands for; ``compute`` returns a scalar, NaN before the first update
    and -inf at accuracy 0; ``standard_error`` its standard error where examples were counted.

    Args:
        num_params: parameters, total or active: say which. The callback gives the active ones.
        num_flops: floating point operations (1 MAC = 2) of one inference.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a count is not above 0; on update, if an accuracy is a number outside [0, 1].

    Source:
        Wong 2018, arXiv:1806.05512.

    Example:
        >>> from intensive_callbacks import NetScore
        >>> score = NetScore(num_params=25.6e6, num_flops=8.2e9)
        >>> score.update(0.761)
        >>> score.compute()
        tensor(55.0451)
    """

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.net_score(accuracy, self.num_params, self.num_flops)


class IntelligenceDensity(AccuracyMetric):
    r"""Intelligence density: the negative logarithm of the error rate, per GB of 1e9 bytes.

    .. math:: D = -\ln(1 - a) / (B / 10^9)

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted.
    At accuracy 1 the error is taken at (0 + 1/2) / (n + 1) where examples were counted, and the density is infinite
    where they were not.

    Args:
        num_bytes: bytes of the stored weights.
        base: of the logarithm; e gives nats, 2 gives bits.
        chance_corrected: use ln((1 - r) / (1 - a)), the excess over the density of chance.
        random_baseline: r, the accuracy of chance; needed for ``chance_corrected``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_bytes`` is not above 0, ``base`` is no base of a logarithm or the correction lacks its
            baseline; on update, if an accuracy is a number outside [0, 1]; on compute, if one was a tensor outside.

    Source:
        "The Intelligence Density Metric"; the natural logarithm is that of the 1-bit Bonsai 8B whitepaper.

    Example:
        >>> from intensive_callbacks import IntelligenceDensity
        >>> intelligence_density = IntelligenceDensity(num_bytes=1.15e9)
        >>> intelligence_density.update(0.705)
        >>> intelligence_density.compute()
        tensor(1.0615)
    """

    plot_lower_bound = 0.0

    def __init__(
        self,
        num_bytes: float,
        base: float = math.e,
        *,
        chance_corrected: bool = False,
        random_baseline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_bytes = num_bytes
        self.base = base
        self.chance_corrected = chance_corrected
        self.random_baseline = random_baseline
        self.value(as_float64(0.0))  # raises for settings that make no sense

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        counted = self.num_examples if self.num_uncounted == 0 else None
        return efficiency.intelligence_density(
            accuracy,
            self.num_bytes,
            base=self.base,
            num_examples=counted,
            chance_corrected=self.chance_corrected,
            random_baseline=self.random_baseline,
        )


class CapabilityDensity(AccuracyMetric):
    """Capability density: the size a reference family needs for this accuracy, over this model's size.

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update and outside the accuracies of the reference's models;
    ``standard_error`` its standard error where examples were counted.

    Args:
        num_params: parameters, total or active: say which. The callback gives the active ones.
        reference: the family to compare with; by default Qwen1.5 on MMLU, so the accuracy has to be one on MMLU.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_params`` is not above 0; on update, if an accuracy is a number outside [0, 1]; on compute,
            if one was a tensor outside.

    Source:
        Xiao et al., "Densing law of LLMs", arXiv 2412.04315.

    Example:
        >>> from intensive_callbacks import CapabilityDensity
        >>> capability_density = CapabilityDensity(num_params=8e9)
        >>> capability_density.update(0.666)  # Llama-3-8B on MMLU
        >>> capability_density.compute()
        tensor(1.8831)
    """

    plot_lower_bound = 0.0
    undefined = "the accuracy lies outside those that the models of the reference family reach"

    def __init__(
        self, num_params: float, reference: efficiency.ReferenceFamily = efficiency.QWEN15_MMLU, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_params = require_positive("num_params", num_params)
        self.reference = reference

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return efficiency.capability_density(accuracy, self.num_params, self.reference)


class GeneralizationEfficiency(SampleMetric):
    """Generalization efficiency (GE): what the second half of the training examples brought, in points per example.

    .. math:: GE = 100 (a_N - a_{N/2}) / (N / 2)

    ``update(num_examples, accuracy)`` takes how many training examples, each seen once, led to an accuracy; ``compute``
    returns a scalar, NaN where no size is at most half of the largest; ``learning_curve`` fits error = a n^-b + c to
    all pairs. It keeps the last ``num_samples`` pairs. During one run it may be fed while every example is new, which
    is to say within the first epoch: do not reset it between logging steps.

    Args:
        num_samples: pairs kept; 16 bytes each.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_samples`` is below 1; on update, if the shapes differ or an accuracy is a number outside
            [0, 1]; on compute, if one was a tensor outside.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 10.

    Example:
        >>> from intensive_callbacks import GeneralizationEfficiency
        >>> ge = GeneralizationEfficiency()
        >>> ge.update(500_000, 0.70)
        >>> ge.update(1_000_000, 0.85)
        >>> ge.compute()
        tensor(3.0000e-05)
    """

    higher_is_better = True
    undefined = "it needs accuracies at two sizes of the training data, one of them at most half of the other"

    def __init__(self, num_samples: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_samples(num_samples, width=2)

    def update(self, num_examples: float | Tensor, accuracy: float | Tensor) -> None:
        """Add the accuracy reached with so many examples, or ``[P]`` of each."""
        sizes = torch.as_tensor(num_examples, dtype=torch.float64, device=self.samples.device)
        fractions = as_fraction("accuracy", accuracy).to(self.samples)
        if sizes.shape != fractions.shape:
            raise ValueError(
                "num_examples and accuracy must be pairs, of the same shape, "
                f"got {tuple(sizes.shape)} and {tuple(fractions.shape)}"
            )
        self.keep(torch.stack([sizes.flatten(), fractions.flatten()], dim=-1))

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The sizes and accuracies kept."""
        sizes, fractions = self.kept().unbind(-1)
        if ((fractions < 0) | (fractions > 1)).any():
            raise ValueError("accuracy must be a fraction in [0, 1]; some of the tensors given lay outside")
        return sizes, fractions

    def compute(self) -> Tensor:
        """100 (a_N - a_{N/2}) / (N / 2) of the pairs kept."""
        return efficiency.generalization_efficiency(*self.pairs())

    @companion
    def learning_curve(self) -> PowerLaw:
        """The power law of the error, with an interval for its exponent; needs four sizes over a decade."""
        return learning_curve(*self.pairs())
