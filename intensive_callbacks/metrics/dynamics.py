"""Information in time, as metrics: ``functional/dynamics.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import dynamics, information
from intensive_callbacks.metrics.base import IntensiveMetric, companion
from intensive_callbacks.metrics.information import CountingMetric

__all__ = ["GaussianTransferEntropy", "TransferEntropy"]


class TransferEntropy(CountingMetric):
    r"""Transfer entropy from a source to a target, with a history of one step, in bits per step.

    .. math:: TE = I(Y_{t+1}; X_t \mid Y_t)

    ``update(source, target)`` takes integers of one shape ``[..., T]`` in order of time, each row a series of its own,
    -1 for none; ``compute`` returns bits, NaN before the first step; ``p_value`` the permutation test that the source
    adds nothing. Less what the mean of all surrogates reads, by default. It keeps L·K·L counts and needs some
    observations for each; it is prediction, not causation: a longer memory or a common cause reads as transfer.

    Args:
        num_source: K, the states of the source.
        num_target: L, the states of the target.
        correction: ``"adjusted"`` or ``"none"``: see ``transfer_entropy``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a size is below 1 or the correction unknown; on update, if the states are no integers of one
            shape; on compute, if one lay outside its range.

    Source:
        Schreiber 2000; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import TransferEntropy
        >>> coin = torch.randint(2, (8, 500), generator=torch.Generator().manual_seed(0))
        >>> there, back = TransferEntropy(2, 2), TransferEntropy(2, 2)
        >>> there.update(coin, coin.roll(1, -1))
        >>> back.update(coin.roll(1, -1), coin)
        >>> there.compute() > 0.99, back.compute().abs() < 0.001, there.p_value(99)
        (tensor(True), tensor(True), 0.01)
    """

    higher_is_better = None
    arguments = "source and target"
    undefined = "no step has been counted, or chance alone fixes the estimate"

    def __init__(self, num_source: int, num_target: int, *, correction: str = "adjusted", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_counts(num_target, num_source, num_target)
        dynamics.transfer_entropy_compute(self.counts, correction=correction)  # raises for an unknown one
        self.num_source, self.num_target = num_source, num_target
        self.correction = correction

    def update(self, source: Tensor, target: Tensor) -> None:
        """Count the steps of one batch of series."""
        counts, num_outside = dynamics.transfer_counts(source, target, self.num_source, self.num_target)
        self.counts += counts
        self.num_outside += num_outside

    def compute(self) -> Tensor:
        """The transfer entropy of all steps counted."""
        return dynamics.transfer_entropy_compute(self.table(), correction=self.correction)

    @companion
    def p_value(self, num_permutations: int = 999, seed: int = 0) -> float:
        """How often a source permuted among equal states of the target would read as much; needs scipy."""
        table = self.table().cpu()
        observed = dynamics.transfer_entropy_compute(table, correction="none")
        strata = [
            information.independent_tables(stratum, num_permutations, seed + index)
            for index, stratum in enumerate(table)
            if stratum.sum() > 0
        ]
        null = torch.stack(
            [
                dynamics.transfer_entropy_compute(torch.stack(drawn), correction="none")
                for drawn in zip(*strata, strict=True)
            ]
        )
        return (1 + int((null >= observed - 1e-12).sum())) / (1 + num_permutations)


class LaggedMoments(IntensiveMetric):
    """A function of the covariance of series now and a step later."""

    second_moment: Tensor
    first_moment: Tensor
    num_steps: Tensor

    def add_moments(self, num_dimensions: int) -> None:
        self.add_sum("second_moment", (num_dimensions, num_dimensions))
        self.add_sum("first_moment", (num_dimensions,))
        self.add_sum("num_steps", (), torch.int64)

    def add(self, first: Tensor, second: Tensor, names: tuple[str, str]) -> None:
        second_moment, first_moment, num_steps = dynamics.lagged_moments(first, second, names=names)
        self.second_moment += second_moment
        self.first_moment += first_moment
        self.num_steps += num_steps


class GaussianTransferEntropy(LaggedMoments):
    r"""Transfer entropy between continuous series as if Gaussian, with a history of one step, in bits per step.

    .. math:: TE = \frac12 \log_2 \frac{|\mathrm{cov}(Y_{t+1} \mid Y_t)|}{|\mathrm{cov}(Y_{t+1} \mid Y_t, X_t)|}

    ``update(source, target)`` takes ``[..., T, p]`` and ``[..., T, q]`` in order of time, each leading index a series
    of its own, in any number of updates; ``compute`` returns bits, unbiased for Gaussian series, NaN for as few steps
    as dimensions. The state is (p + 2q) squared, an update one product in float64. It sees linear dependence only;
    reduce wide activations first, by a projection that does not depend on the data. It is prediction, not causation.

    Args:
        num_source: p.
        num_target: q.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if a size is below 1; on update, if the shapes do not fit.

    Source:
        Barnett, Barrett and Seth 2009; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import GaussianTransferEntropy
        >>> noise = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        >>> transfer = GaussianTransferEntropy(num_source=1, num_target=1)
        >>> transfer.update(noise, noise.roll(1, 0) + 0.01 * noise.flip(0))
        >>> transfer.compute() > 6
        tensor(True)
    """

    higher_is_better = None
    undefined = "there were as few steps as dimensions, or a series is constant or a combination of others"

    def __init__(self, num_source: int, num_target: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min(num_source, num_target) < 1:
            raise ValueError(f"num_source and num_target must be at least 1, got {num_source} and {num_target}")
        self.num_source, self.num_target = num_source, num_target
        self.add_moments(num_source + 2 * num_target)

    def update(self, source: Tensor, target: Tensor) -> None:
        """Add the moments of one batch of series."""
        if (source.shape[-1:], target.shape[-1:]) != ((self.num_source,), (self.num_target,)):
            raise ValueError(
                f"source and target must be [..., T, {self.num_source}] and [..., T, {self.num_target}], "
                f"got {tuple(source.shape)} and {tuple(target.shape)}"
            )
        self.add(source, target, ("source", "target"))

    def compute(self) -> Tensor:
        """The transfer entropy of all steps."""
        return dynamics.gaussian_transfer_entropy_compute(
            self.second_moment, self.first_moment, self.num_steps, self.num_source
        )
