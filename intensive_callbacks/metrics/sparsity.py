"""Accuracy in view of the active share, as metrics: ``functional/sparsity.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import sparsity
from intensive_callbacks.functional.checks import require_baseline
from intensive_callbacks.metrics.base import ActiveAccuracyMetric, IntensiveMetric, companion

__all__ = ["RelevanceRealizationRate", "SparseRetention", "SparsityAdjustedAccuracy"]


class RelevanceRealizationRate(ActiveAccuracyMetric):
    """Relevance realization rate (R3): the active share of a model times its gain over chance.

    .. math:: R3 = (N_{active} / N_{total}) (a / r)

    ``update(accuracy, num_examples=None, active_params=None)`` takes a fraction in [0, 1], the examples it stands for
    and, where they were measured, the parameters that one token touched in them; ``compute`` returns a scalar in
    [0, 1/r], NaN before the first update.

    Args:
        total_params: every parameter once.
        active_params: parameters that one token touches by design; used where an update brings no measured ones.
        random_baseline: r, the accuracy of chance, in (0, 1).
        chance_corrected: use (a - r) / (1 - r) for the gain, which keeps the rate in [0, 1] above chance.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``total_params`` is not above 0, ``active_params`` is outside [0, ``total_params``] or
            ``random_baseline`` is outside (0, 1); on update, if an accuracy is a number outside [0, 1].

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 4.

    Example:
        >>> from intensive_callbacks import RelevanceRealizationRate
        >>> r3 = RelevanceRealizationRate(total_params=671e9, active_params=37e9, random_baseline=0.25)
        >>> r3.update(0.85)
        >>> r3.compute()
        tensor(0.1875)
    """

    higher_is_better: bool | None = None  # of a dense model it is as high as can be
    plot_lower_bound = 0.0

    def __init__(
        self,
        total_params: float,
        active_params: float,
        random_baseline: float,
        *,
        chance_corrected: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(total_params, active_params, **kwargs)
        self.random_baseline = require_baseline(random_baseline)
        self.chance_corrected = chance_corrected

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return sparsity.relevance_realization_rate(
            accuracy,
            self.total_params,
            self.mean_active_params(),
            self.random_baseline,
            chance_corrected=self.chance_corrected,
        )


class SparsityAdjustedAccuracy(ActiveAccuracyMetric):
    """Sparsity-adjusted accuracy (SAA): the accuracy times the share of the parameters that stays idle.

    .. math:: SAA = a (1 - N_{active} / N_{total})

    ``update(accuracy, num_examples=None, active_params=None)`` takes a fraction in [0, 1], the examples it stands for
    and, where they were measured, the parameters that one token touched in them; ``compute`` returns a fraction, NaN
    before the first update; ``standard_error`` its standard error where examples were counted. To train for it, use
    :class:`intensive_callbacks.losses.SparseAccuracyLoss`.

    Args:
        total_params: every parameter once.
        active_params: parameters that one token touches by design; used where an update brings no measured ones.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``total_params`` is not above 0 or ``active_params`` is outside [0, ``total_params``]; on update,
            if an accuracy is a number outside [0, 1]; on compute, if one was a tensor outside.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 8.

    Example:
        >>> from intensive_callbacks import SparsityAdjustedAccuracy
        >>> saa = SparsityAdjustedAccuracy(total_params=100e9, active_params=5e9)
        >>> saa.update(0.85, num_examples=1000)
        >>> saa.compute(), saa.standard_error()
        (tensor(0.8075), tensor(0.0107, dtype=torch.float64))
    """

    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return sparsity.sparsity_adjusted_accuracy(accuracy, self.total_params, self.mean_active_params())


class SparseRetention(IntensiveMetric):
    r"""Sparse retention: the share of its accuracy that a model keeps when pruned, on the same examples.

    .. math:: R = a_{sparse} / a_{dense}

    ``update(sparse_correct, dense_correct)`` takes booleans of one shape, the same examples in the same order;
    ``compute`` returns a scalar, above 1 where pruning helped, NaN where the dense model was never right; ``interval``
    McNemar's, from the examples on which the two differ. Name the sparsity beside it.

    Args:
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: on update, if the shapes differ.

    Source:
        Frankle and Carbin 2019, arXiv:1803.03635; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import SparseRetention
        >>> retention = SparseRetention()
        >>> retention.update(torch.tensor([True, True, False, False]), torch.tensor([True, True, True, False]))
        >>> retention.compute()
        tensor(0.6667)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    undefined = "the dense model was never right"
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("counts", (2, 2), torch.int64)

    def update(self, sparse_correct: Tensor, dense_correct: Tensor) -> None:
        """Count the examples of one batch by who was right."""
        self.counts += sparsity.sparse_retention_update(sparse_correct, dense_correct)

    def compute(self) -> Tensor:
        """Accuracy of the sparse over accuracy of the dense model."""
        return sparsity.sparse_retention_compute(self.counts)

    @companion
    def interval(self, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
        """The interval of :meth:`compute`, from the examples on which exactly one of the models was right."""
        return sparsity.retention_interval(self.counts, confidence)
