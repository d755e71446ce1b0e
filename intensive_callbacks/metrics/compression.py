"""Sparsity and information, as metrics: :mod:`intensive_callbacks.functional.compression` has the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intensive_callbacks.functional import compression
from intensive_callbacks.metrics.base import ActiveAccuracyMetric

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SparsityAdjustedAccuracy"]


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
        (tensor(0.8075, dtype=torch.float64), tensor(0.0107, dtype=torch.float64))
    """

    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return compression.sparsity_adjusted_accuracy(accuracy, self.total_params, self.mean_active_params())
