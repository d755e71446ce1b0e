"""Integrated information, as a metric: ``functional/integrated_information.py`` has the mathematics."""

from typing import Any

from torch import Tensor

from intensive_callbacks.functional.integrated_information import (
    integrated_information_compute,
    require_components,
    total_correlation,
)
from intensive_callbacks.functional.representation import covariance
from intensive_callbacks.metrics.base import companion
from intensive_callbacks.metrics.dynamics import LaggedMoments

__all__ = ["IntegratedInformation"]


class IntegratedInformation(LaggedMoments):
    r"""Integrated information: what a present tells of the next state beyond its two best parts, in bits.

    .. math:: \Phi = \min_{A, B} \; I(Z_t; Z_{t+1}) - I(A_t; A_{t+1}) - I(B_t; B_{t+1})

    ``update(states)`` takes ``[..., T, d]`` in order of time, each leading index a series of its own, in any number of
    updates; ``compute`` returns bits for a stationary Gaussian process, NaN for as few steps as 2d;
    ``total_correlation`` how far the components are from independent. None of the Phi of integrated information theory,
    and it may be negative.

    Args:
        num_components: d, 2 to 12; ``compute`` tries every bipartition.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: for another number of components; on update, if the shape does not fit.

    Source:
        Barrett and Seth 2011; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> import torch
        >>> from intensive_callbacks import IntegratedInformation
        >>> phi = IntegratedInformation(num_components=3)
        >>> phi.update(torch.randn(4, 1000, 3, generator=torch.Generator().manual_seed(0)))
        >>> phi.compute().abs() < 0.01, phi.total_correlation() < 0.01
        (tensor(True), tensor(True))
    """

    higher_is_better = None
    undefined = "there were as few steps as dimensions, or a component is constant or a combination of others"

    def __init__(self, num_components: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_components(num_components)
        self.num_components = num_components
        self.add_moments(2 * num_components)

    def update(self, states: Tensor) -> None:
        """Add the moments of one batch of series."""
        if states.shape[-1:] != (self.num_components,):
            raise ValueError(f"states must be [..., T, {self.num_components}], got {tuple(states.shape)}")
        self.add(states[..., :0], states, ("states", "states"))

    def compute(self) -> Tensor:
        """The integrated information of all steps."""
        return integrated_information_compute(self.second_moment, self.first_moment, self.num_steps)

    @companion
    def total_correlation(self) -> Tensor:
        """How far the components, at one time, are from independent, in bits."""
        matrix = covariance(self.second_moment, self.first_moment, self.num_steps)
        return total_correlation(matrix[: self.num_components, : self.num_components])
