"""The noise of the gradient, as a metric: ``functional/gradient_noise.py`` has the mathematics."""

from typing import Any

from torch import Tensor

from intensive_callbacks.functional import gradient_noise
from intensive_callbacks.metrics.base import IntensiveMetric

__all__ = ["CriticalBatchSize"]


class CriticalBatchSize(IntensiveMetric):
    r"""Critical batch size, as the simple gradient noise scale: the batch at which the noise equals the signal.

    .. math:: B = \mathrm{tr}\Sigma / |G|^2

    ``update(small_norm_squared, large_norm_squared)`` takes the squared norms of the mean gradients over a small and a
    large batch that holds it, numbers or ``[n]`` in order of steps; under DDP the small one is a process's own before
    the all-reduce. ``compute`` returns examples, NaN where the averaged signal is not above 0: take hundreds of steps.
    Numerator and denominator are averaged apart, each with ``decay`` per step. A scale, not a threshold.

    Args:
        small_batch_size: examples in a small batch.
        large_batch_size: examples in a large batch.
        decay: what a step weighs relative to the next, in (0, 1].
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if the sizes are not 0 < small < large or ``decay`` is outside (0, 1].

    Source:
        McCandlish et al. 2018, arXiv:1812.06162; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import CriticalBatchSize
        >>> noise_scale = CriticalBatchSize(small_batch_size=2, large_batch_size=8, decay=1.0)
        >>> noise_scale.update(5.2, 2.0)
        >>> noise_scale.update(4.8, 2.0)
        >>> noise_scale.compute()
        tensor(8.)
    """

    higher_is_better = None
    undefined = "no step has been seen, or too few for the averaged signal to be above 0"
    noise: Tensor
    signal: Tensor

    def __init__(
        self,
        small_batch_size: float,
        large_batch_size: float,
        *,
        decay: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        gradient_noise.require_batch_sizes(small_batch_size, large_batch_size)
        self.small_batch_size = small_batch_size
        self.large_batch_size = large_batch_size
        self.decay = decay
        # Sums that decay, whose ratio is that of the averages: they still add over processes.
        self.add_sum("noise")
        self.add_sum("signal")
        gradient_noise.step_weights(self.noise.reshape(1), decay)  # raises for a decay outside (0, 1]

    def update(self, small_norm_squared: float | Tensor, large_norm_squared: float | Tensor) -> None:
        """Add one step, or several in order."""
        moments = gradient_noise.gradient_moments(
            small_norm_squared, large_norm_squared, self.small_batch_size, self.large_batch_size
        )
        for name in ("noise", "signal"):
            values = getattr(moments, name).detach().reshape(-1).to(self.noise.device)
            weights = gradient_noise.step_weights(values, self.decay)
            setattr(self, name, getattr(self, name) * self.decay ** len(values) + weights @ values)

    def compute(self) -> Tensor:
        """The ratio of the averages."""
        return gradient_noise.critical_batch_size_compute(self.noise, self.signal)
