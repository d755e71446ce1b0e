"""Representations, as metrics: ``functional/representation.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import representation
from intensive_callbacks.functional.checks import as_float64
from intensive_callbacks.metrics.base import IntensiveMetric, companion

__all__ = ["EffectiveDimensionality", "LayerwiseMean"]


class EffectiveDimensionality(IntensiveMetric):
    r"""Effective dimensionality: how many directions share the variance of a representation.

    .. math:: D = \exp H(\lambda / \textstyle\sum \lambda), \quad \lambda \text{ the eigenvalues of } \mathrm{cov}(x)

    ``update(features, mask=None)`` takes ``[..., d]``, every leading dimension a sample (``[..., T, d]`` for
    ``per_token``), and booleans of the leading shape that are false on padding; it costs one product of the batch with
    itself in float64 and never waits for the device. ``compute`` returns a scalar in [1, d], NaN for fewer than two
    samples; it costs one eigendecomposition. Take ten samples per dimension: isotropic features read too little by
    about d / (2n) of themselves.

    Args:
        num_features: d; the state is d x d.
        per_token: divide by the mean number of tokens T of a sequence.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_features`` is below 1; on update, if the shapes do not fit.

    Source:
        Roy and Vetterli 2007; "Intensive Intelligence: Mathematical Foundations", effective dimensionality.

    Example:
        >>> from intensive_callbacks import EffectiveDimensionality
        >>> dimensionality = EffectiveDimensionality(num_features=3)
        >>> axes = torch.diag(torch.tensor([2.0, 1.0, 1.0]).sqrt())
        >>> dimensionality.update(torch.cat([axes, -axes]))
        >>> dimensionality.compute()
        tensor(2.8284)
    """

    higher_is_better = None
    plot_lower_bound = 0.0
    undefined = "fewer than two samples, or nothing varies"
    second_moment: Tensor
    first_moment: Tensor
    num_samples: Tensor
    num_sequences: Tensor

    def __init__(self, num_features: int, *, per_token: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.num_features = num_features
        self.per_token = per_token
        self.add_sum("second_moment", (num_features, num_features))
        self.add_sum("first_moment", (num_features,))
        self.add_sum("num_samples", (), torch.int64)
        self.add_sum("num_sequences", (), torch.int64)

    def update(self, features: Tensor, mask: Tensor | None = None) -> None:
        """Add the moments of one batch."""
        expected = 3 if self.per_token else 2
        if features.dim() < expected or features.shape[-1] != self.num_features:
            shape = "[..., T, " if self.per_token else "[..., "
            raise ValueError(f"features must be {shape}{self.num_features}], got {tuple(features.shape)}")
        if mask is not None and mask.shape != features.shape[:-1]:
            raise ValueError(f"mask must be {tuple(features.shape[:-1])}, got {tuple(mask.shape)}")
        samples = as_float64(features.detach())
        kept = torch.ones(features.shape[:-1], dtype=torch.bool, device=features.device) if mask is None else mask
        # Not by multiplication: a padded place may hold anything, NaN too.
        samples = torch.where(kept.unsqueeze(-1), samples, 0).flatten(0, -2)
        self.second_moment += samples.T @ samples
        self.first_moment += samples.sum(0)
        self.num_samples += kept.sum()
        self.num_sequences += kept.any(-1).sum()

    def compute(self) -> Tensor:
        """The effective rank of the covariance of all samples."""
        rank = representation.effective_rank(
            representation.covariance(self.second_moment, self.first_moment, self.num_samples)
        )
        return rank * self.num_sequences / self.num_samples if self.per_token else rank


class LayerwiseMean(IntensiveMetric):
    """The mean of a quantity over layers, with an error that knows that neighboring layers resemble each other.

    ``update(values)`` takes ``[..., L]``, one value for each layer in order of depth; ``compute`` returns the mean over
    layers of the mean over updates, NaN before the first; ``standard_error`` its error as a sample of layers: with 32
    independent layers it is 18 % of their spread, with layers that resemble their neighbors it is more.

    Args:
        num_layers: L.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_layers`` is below 1; on update, if there is not one value for each layer.

    Source:
        "Intensive Intelligence: Mathematical Foundations", temperature as an intensive property.

    Example:
        >>> from intensive_callbacks import LayerwiseMean
        >>> mean = LayerwiseMean(num_layers=6)
        >>> mean.update(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]))
        >>> mean.compute(), mean.standard_error()
        (tensor(0.), tensor(0.4472, dtype=torch.float64))
    """

    higher_is_better = None
    layer_sum: Tensor
    num_observations: Tensor

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.num_layers = num_layers
        self.add_sum("layer_sum", (num_layers,))
        self.add_sum("num_observations", (), torch.int64)

    def update(self, values: Tensor) -> None:
        """Add one value for each layer."""
        if values.shape[-1:] != (self.num_layers,):
            raise ValueError(f"values must be [..., {self.num_layers}], got {tuple(values.shape)}")
        observations = as_float64(values.detach()).reshape(-1, self.num_layers)
        self.layer_sum += observations.sum(0)
        self.num_observations += len(observations)

    def compute(self) -> Tensor:
        """The mean over layers and updates."""
        return representation.layerwise_mean(self.layer_sum / self.num_observations)

    @companion
    def standard_error(self) -> Tensor:
        """Standard error of the mean as one over a sample of layers; NaN for fewer than 4 layers."""
        return representation.layerwise_standard_error(self.layer_sum / self.num_observations)
