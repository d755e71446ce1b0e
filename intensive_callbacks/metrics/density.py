"""Densities of capability, as metrics: :mod:`intensive_callbacks.functional.density` has the mathematics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from intensive_callbacks.functional import density
from intensive_callbacks.functional.checks import require_positive
from intensive_callbacks.metrics.base import AccuracyMetric

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CapabilityDensity", "IntelligenceDensity"]


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
        tensor(1.0615, dtype=torch.float64)
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
        self.settings: dict[str, Any] = {
            "base": base,
            "chance_corrected": chance_corrected,
            "random_baseline": random_baseline,
        }
        density.intelligence_density(0.0, num_bytes, **self.settings)  # refuses settings that make no sense

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        counted = self.num_examples if self.num_uncounted == 0 else None
        return density.intelligence_density(accuracy, self.num_bytes, num_examples=counted, **self.settings)


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
        tensor(1.8831, dtype=torch.float64)
    """

    plot_lower_bound = 0.0
    undefined = "the accuracy lies outside those that the models of the reference family reach"

    def __init__(
        self, num_params: float, reference: density.ReferenceFamily = density.QWEN15_MMLU, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_params = require_positive("num_params", num_params)
        self.reference = reference

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return density.capability_density(accuracy, self.num_params, self.reference)
