"""Discrete information, as metrics: ``functional/information.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import information
from intensive_callbacks.functional.checks import require_positive
from intensive_callbacks.functional.information import Correction
from intensive_callbacks.metrics.base import IntensiveMetric, companion
from intensive_callbacks.metrics.sparsity import RelevanceRealizationRate

__all__ = ["ConfigurationQuality", "CouplingQuality", "MutualInformation", "RelevanceDensity", "ShannonEntropy"]


class CountingMetric(IntensiveMetric):
    """A function of how often labels occur together; the counts are its state."""

    arguments: str = "x and y"
    counts: Tensor
    num_outside: Tensor

    def add_counts(self, *sizes: int) -> None:
        """A state for the counts of variables with so many values each."""
        if min(sizes) < 1:
            raise ValueError(f"a variable has at least 1 value, got sizes {sizes} of {self.size_names()}")
        self.sizes = sizes
        self.add_sum("counts", sizes, torch.int64)
        self.add_sum("num_outside", (), torch.int64)

    def count(self, mask: Tensor | None = None, **labels: Tensor) -> None:
        """Count the labels of one batch, each under the name that an error should call it."""
        counts, num_outside = information.count_labels(labels, self.sizes, mask)
        self.counts += counts
        self.num_outside += num_outside

    def table(self) -> Tensor:
        """All counts, if every label lay in its range."""
        if self.num_outside > 0:
            raise ValueError(
                f"labels must lie in [-1, size) with sizes {self.sizes}, -1 for none; "
                f"{int(self.num_outside)} of those given as {self.arguments} lay outside"
            )
        return self.counts


class ShannonEntropy(CountingMetric):
    r"""Shannon entropy of a stream of labels, in bits.

    .. math:: H = -\sum_i p_i \log_2 p_i + \frac{K_+ - 1}{2 n \ln 2}

    ``update(labels, mask=None)`` takes integers in [-1, K) of any shape, -1 for none, and booleans of their leading
    shape; ``compute`` returns bits, NaN before the first label. Good from a few observations per value on; it says
    nothing of values that were never seen. Of independent symbols it is the entropy of one: that of n is n times it.

    Args:
        num_values: K.
        correction: ``"miller_madow"``, the second term above, or ``"none"``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_values`` is below 1; on update, if the labels are no integers; on compute, if one lay
            outside its range.

    Source:
        Shannon 1948; Miller 1955; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import ShannonEntropy
        >>> entropy = ShannonEntropy(num_values=8, correction="none")
        >>> entropy.update(torch.arange(800) % 8)
        >>> entropy.compute()
        tensor(3.)
    """

    higher_is_better = None
    plot_lower_bound = 0.0
    arguments = "labels"

    def __init__(self, num_values: int, *, correction: Correction = "miller_madow", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_values = num_values
        self.add_counts(num_values)
        information.shannon_entropy_compute(self.counts, correction=correction)  # raises for an unknown one
        self.correction = correction

    def update(self, labels: Tensor, mask: Tensor | None = None) -> None:
        """Count the labels of one batch."""
        self.count(mask, labels=labels)

    def compute(self) -> Tensor:
        """The entropy of all labels counted."""
        return information.shannon_entropy_compute(self.table(), correction=self.correction)


class _PairedLabels(CountingMetric):
    def __init__(self, num_x: int, num_y: int, *, correction: Correction = "adjusted", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_x, self.num_y = num_x, num_y
        self.add_counts(num_x, num_y)
        information.require_correction(correction)
        self.correction = correction

    def update(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> None:
        """Count the pairs of one batch."""
        self.count(mask, x=x, y=y)

    @companion
    def p_value(self, num_permutations: int = 999, seed: int = 0) -> float:
        """How often permuted labels would read as much; needs scipy. Too small where observations are dependent."""
        return information.permutation_p_value(self.table(), num_permutations, seed)


class MutualInformation(_PairedLabels):
    r"""Mutual information of two streams of labels, in bits.

    .. math:: I = \sum_{ij} p_{ij} \log_2 \frac{p_{ij}}{p_i p_j}

    ``update(x, y, mask=None)`` takes integers of one shape in [-1, K) and [-1, L), -1 for none; ``compute`` returns
    bits, NaN before the first pair; ``p_value`` the permutation test of independence. Adjusted for chance by default: 0
    on average where independent at any sample size, H where one tells the other exactly. It keeps K·L counts. Not for
    binned continuous variables: the bins decide the number.

    Args:
        num_x: K.
        num_y: L.
        correction: ``"adjusted"``, ``"miller_madow"`` or ``"none"``: see ``mutual_information``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a size is below 1 or the correction unknown; on update, if the labels are no integers of one
            shape; on compute, if one lay outside its range.

    Source:
        Vinh, Epps and Bailey 2010; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import MutualInformation
        >>> mutual_information = MutualInformation(num_x=4, num_y=2)
        >>> mutual_information.update(torch.arange(400) % 4, torch.arange(400) % 4 // 2)
        >>> mutual_information.compute(), mutual_information.p_value()
        (tensor(1.), 0.001)
    """

    higher_is_better = None
    undefined = "no pair has been counted, or every value was seen only once"

    def compute(self) -> Tensor:
        """The mutual information of all pairs counted."""
        return information.discrete_mutual_information(self.table(), correction=self.correction)


class CouplingQuality(_PairedLabels):
    r"""Coupling quality: the share of the less uncertain stream of labels that the other tells.

    .. math:: C = I(X;Y) / \min(H(X), H(Y))

    ``update(x, y, mask=None)`` takes integers of one shape in [-1, K) and [-1, L), -1 for none: token classes and the
    experts they went to, say, or clustered queries and clustered visual tokens. ``compute`` returns a scalar of at most
    1, 0 on average where independent, NaN before the first pair or where a variable is constant; ``p_value`` the
    permutation test. Discrete variables only.

    Args:
        num_x: K.
        num_y: L.
        correction: ``"adjusted"``, ``"miller_madow"`` or ``"none"``: see ``mutual_information``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a size is below 1 or the correction unknown; on update, if the labels are no integers of one
            shape; on compute, if one lay outside its range.

    Source:
        "Intensive Intelligence: Mathematical Foundations", coupling quality; Vinh, Epps and Bailey 2010.

    Example:
        >>> from intensive_callbacks import CouplingQuality
        >>> coupling = CouplingQuality(num_x=4, num_y=2)
        >>> coupling.update(torch.arange(400) % 4, torch.arange(400) % 4 // 2)
        >>> coupling.compute()
        tensor(1.)
    """

    higher_is_better = True
    plot_upper_bound = 1.0
    undefined = "no pair has been counted, a variable is constant, or every value was seen only once"

    def compute(self) -> Tensor:
        """The coupling of all pairs counted."""
        return information.coupling_quality_compute(self.table(), correction=self.correction)


class RelevanceDensity(_PairedLabels):
    """Relevance density: what a query and a patch tell of each other, per pixel of the patch, in bits.

    ``update(x, y, mask=None)`` takes the labels of queries and of patches (classes, codes or clusters), integers of one
    shape, -1 for none; ``compute`` returns bits per pixel, NaN before the first pair.

    Args:
        num_x: the number of query labels.
        num_y: the number of patch labels.
        num_pixels: the area of one patch.
        correction: ``"adjusted"``, ``"miller_madow"`` or ``"none"``: see ``mutual_information``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: as :class:`MutualInformation`, or if ``num_pixels`` is not above 0.

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 2.

    Example:
        >>> from intensive_callbacks import RelevanceDensity
        >>> density = RelevanceDensity(num_x=2, num_y=2, num_pixels=256)
        >>> density.update(torch.arange(400) % 2, torch.arange(400) % 2)
        >>> density.compute()
        tensor(0.0039)
    """

    higher_is_better = True

    def __init__(
        self,
        num_x: int,
        num_y: int,
        num_pixels: float,
        *,
        correction: Correction = "adjusted",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_x, num_y, correction=correction, **kwargs)
        self.num_pixels = require_positive("num_pixels", num_pixels)

    def compute(self) -> Tensor:
        """The density of all pairs counted."""
        return information.relevance_density_compute(self.table(), self.num_pixels, correction=self.correction)


class ConfigurationQuality(CountingMetric, RelevanceRealizationRate):
    """Configuration quality: coupling quality times relevance realization rate.

    ``update(accuracy=None, num_examples=None, active_params=None, *, x=None, y=None, mask=None)`` takes an accuracy, or
    the labels of :class:`CouplingQuality`, or both: labels come with batches, accuracies with validations. ``compute``
    returns a scalar, NaN until it has both; ``standard_error`` that of the accuracy alone. It inherits R3's taste for
    dense models: compare models of like sparsity.

    Args:
        num_x: the number of labels of the one variable, queries say.
        num_y: the number of labels of the other, visual tokens say.
        total_params: every parameter once.
        active_params: parameters that one token touches.
        random_baseline: the accuracy of chance, in (0, 1).
        correction: that of the coupling.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: as :class:`CouplingQuality` and ``RelevanceRealizationRate``.

    Source:
        "Intensive Intelligence: Mathematical Foundations", example 1.

    Example:
        >>> from intensive_callbacks import ConfigurationQuality
        >>> quality = ConfigurationQuality(2, 2, total_params=671e9, active_params=37e9, random_baseline=0.25)
        >>> quality.update(x=torch.arange(400) % 2, y=torch.arange(400) % 2)
        >>> quality.update(0.85)
        >>> quality.compute()
        tensor(0.1875)
    """

    higher_is_better = True

    def __init__(
        self,
        num_x: int,
        num_y: int,
        total_params: float,
        active_params: float,
        random_baseline: float,
        *,
        correction: Correction = "adjusted",
        **kwargs: Any,
    ) -> None:
        super().__init__(total_params, active_params, random_baseline, **kwargs)
        self.num_x, self.num_y = num_x, num_y
        self.add_counts(num_x, num_y)
        information.require_correction(correction)
        self.correction = correction

    def update(
        self,
        accuracy: float | Tensor | None = None,
        num_examples: int | None = None,
        active_params: float | Tensor | None = None,
        *,
        x: Tensor | None = None,
        y: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Add an accuracy, or count the pairs of one batch, or both."""
        if accuracy is not None:
            super().update(accuracy, num_examples, active_params)
        if x is not None and y is not None:
            self.count(mask, x=x, y=y)

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return information.coupling_quality_compute(self.table(), correction=self.correction) * super().value(accuracy)
