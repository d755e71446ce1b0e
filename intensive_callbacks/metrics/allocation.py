"""How tokens and attention follow relevance, as metrics: ``functional/allocation.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import allocation
from intensive_callbacks.functional.allocation import Divergence
from intensive_callbacks.metrics.base import IntensiveMetric, SampleMetric, companion

__all__ = ["QueryContentCoupling", "SalienceDivergence"]


class QueryContentCoupling(SampleMetric):
    """Query-content coupling (QC3): the Pearson correlation of relevance and token budgets over all patches.

    ``update(relevance, token_budgets)`` takes ``[P]`` patches of one image or ``[B, P]`` of several; pairs that are not
    finite are left out and counted in ``num_dropped``. ``compute`` returns a scalar in [-1, 1], from sums of all pairs;
    NaN with fewer than two or with a constant input. Beside it ``per_image`` is the mean over images, which pooling
    images of different mean can contradict, ``rank_correlation`` is Spearman's, of the last ``num_samples`` pairs, and
    ``regret`` the information lost by budgets that are not proportional to relevance.

    Args:
        num_samples: pairs kept for ``rank_correlation``; 16 bytes each.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_samples`` is below 1; on update, if the shapes differ or are not ``[P]`` or ``[B, P]``.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 6.

    Example:
        >>> from intensive_callbacks import QueryContentCoupling
        >>> qc3 = QueryContentCoupling()
        >>> qc3.update(torch.tensor([0.1, 0.4, 0.6, 0.9]), torch.tensor([64, 200, 150, 400]))
        >>> qc3.compute(), qc3.rank_correlation()
        (tensor(0.8989), tensor(0.8000, dtype=torch.float64))
    """

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    undefined = "relevance or token budgets are constant, or there are fewer than two pairs"
    moments: Tensor
    weighted_z: Tensor
    z_weight: Tensor
    regret_bits: Tensor
    num_images: Tensor

    def __init__(self, num_samples: int = 4096, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_samples(num_samples, width=2)
        self.add_sum("moments", (6,))
        self.add_sum("weighted_z")
        self.add_sum("z_weight")
        self.add_sum("regret_bits")
        self.add_sum("num_images")

    def update(self, relevance: Tensor, token_budgets: Tensor) -> None:
        """Add the patches of one image or of a batch of images."""
        if relevance.dim() not in (1, 2):
            raise ValueError(f"relevance must be [P] or [B, P], got {tuple(relevance.shape)}; flatten the patches")
        relevance, token_budgets = relevance.detach().to(self.moments), token_budgets.detach().to(self.moments)
        weighted_z, z_weight = allocation.fisher_z(relevance, token_budgets)
        regret = allocation.allocation_regret(relevance, token_budgets).reshape(-1)
        self.moments += allocation.query_content_coupling_update(relevance, token_budgets).reshape(-1, 6).sum(0)
        self.weighted_z += weighted_z.sum()
        self.z_weight += z_weight.sum()
        self.regret_bits += regret.nansum()
        self.num_images += (~regret.isnan()).sum()
        self.keep(torch.stack([relevance.flatten(), token_budgets.flatten()], dim=-1))

    def compute(self) -> Tensor:
        """Pearson's r of all pairs."""
        return allocation.query_content_coupling_compute(self.moments)

    @companion
    def standard_error(self) -> Tensor:
        """Standard error of :meth:`compute`, (1 - r²) / sqrt(n - 3), of Fisher's z; for pairs that are independent."""
        r = allocation.query_content_coupling_compute(self.moments)
        return (1 - r * r) / (self.moments[0] - 3).sqrt()

    @companion
    def per_image(self) -> Tensor:
        """The mean of the images' correlations by Fisher's z, weighted by patches - 3; NaN where none has four."""
        return (self.weighted_z / self.z_weight).tanh()

    @companion
    def rank_correlation(self) -> Tensor:
        """Spearman's correlation of the last ``num_samples`` pairs."""
        return allocation.rank_coupling(*self.kept().unbind(-1))

    @companion
    def regret(self) -> Tensor:
        """Mean bits lost per image, :func:`~allocation.allocation_regret`; images with negative values do not count."""
        return self.regret_bits / self.num_images


class SalienceDivergence(IntensiveMetric):
    r"""Divergence of a model's salience from people's, the mean over maps, in nats.

    .. math:: D = \sum_i p_i \ln \frac{p_i}{q_i}

    ``update(human, model, mask=None)`` takes ``[..., P]`` twice, not negative, with a booleans of the leading shape
    that is false where there is no map; ``compute`` returns the mean over maps, NaN before the first or after an
    impossible one. Without smoothing it is infinite where a model gives nothing to a place that people looked at; the
    Jensen-Shannon divergence is bounded by ln 2.

    Args:
        divergence: ``"kl"``, of people's map from the model's, or ``"jensen_shannon"``.
        smoothing: the share of a uniform map mixed into the model's, in [0, 1].
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if the divergence is another or ``smoothing`` is outside [0, 1]; on update, if the shapes differ.

    Source:
        "Intensive Intelligence: Mathematical Foundations", perspectival knowing; Lin 1991 for Jensen-Shannon.

    Example:
        >>> from intensive_callbacks import SalienceDivergence
        >>> divergence = SalienceDivergence()
        >>> divergence.update(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
        >>> divergence.compute()
        tensor(0.1840)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    undefined = "there was no map, or one with a negative value or without a positive one"
    divergence_sum: Tensor
    num_maps: Tensor

    def __init__(self, *, divergence: Divergence = "kl", smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        allocation.salience_divergence(torch.ones(1), torch.ones(1), divergence=divergence, smoothing=smoothing)
        self.divergence: Divergence = divergence
        self.smoothing = smoothing
        self.add_sum("divergence_sum")
        self.add_sum("num_maps", (), torch.int64)

    def update(self, human: Tensor, model: Tensor, mask: Tensor | None = None) -> None:
        """Add the divergences of one batch of maps."""
        values = allocation.salience_divergence(
            human.detach(), model.detach(), divergence=self.divergence, smoothing=self.smoothing
        )
        kept = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
        if kept.shape != values.shape:
            raise ValueError(f"mask must be {tuple(values.shape)}, got {tuple(kept.shape)}")
        self.divergence_sum += torch.where(kept, values, 0).sum()
        self.num_maps += kept.sum()

    def compute(self) -> Tensor:
        """The mean over all maps."""
        return self.divergence_sum / self.num_maps
