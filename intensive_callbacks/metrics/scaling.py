"""Balance of parameters and data, as a metric: ``functional/scaling.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import scaling
from intensive_callbacks.functional.checks import require_positive
from intensive_callbacks.metrics.base import IntensiveMetric, companion

__all__ = ["ChinchillaOptimalityIndex"]


class ChinchillaOptimalityIndex(IntensiveMetric):
    r"""Chinchilla optimality index (COI): parameters per training token over their compute-optimal ratio.

    .. math:: COI = \frac{N / D}{(N / D)^*}, \quad (N / D)^* = 1 / 20

    ``update(num_tokens)`` adds the tokens of a batch, counted in 64 bits and summed over processes; ``compute`` returns
    a scalar: above 1 the model is under-trained, below 1 over-trained, NaN before the first token. ``excess_loss`` is
    what the imbalance costs. The tokens are those of the whole training: do not reset it between logging steps.

    Args:
        num_params: N, total or active: say which, the verdict may turn on it. The callback gives the active ones.
        tokens_per_param: the optimal D / N.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_params`` or ``tokens_per_param`` is not above 0; on update, if ``num_tokens`` is a negative
            number; on compute, if one was a negative tensor.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 9; Hoffmann et al. 2022, arXiv 2203.15556.

    Example:
        >>> from intensive_callbacks import ChinchillaOptimalityIndex
        >>> coi = ChinchillaOptimalityIndex(num_params=175_000_000_000)  # GPT-3
        >>> coi.update(300_000_000_000)
        >>> coi.compute(), coi.excess_loss()
        (tensor(11.6667), tensor(0.0162, dtype=torch.float64))
    """

    higher_is_better = None
    plot_lower_bound = 0.0
    undefined = "no training token has been counted"
    num_tokens: Tensor
    num_invalid: Tensor

    def __init__(self, num_params: float, tokens_per_param: float = 20.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_params = require_positive("num_params", num_params)
        self.tokens_per_param = require_positive("tokens_per_param", tokens_per_param)
        self.add_sum("num_tokens", dtype=torch.int64)
        self.add_sum("num_invalid", dtype=torch.int64)

    def update(self, num_tokens: int | Tensor) -> None:
        """Add the tokens of a batch, or several counts at once."""
        if not isinstance(num_tokens, Tensor) and num_tokens < 0:
            raise ValueError(f"num_tokens must not be negative, got {num_tokens}")
        counts = torch.as_tensor(num_tokens, device=self.num_tokens.device).to(torch.int64)
        self.num_tokens += counts.sum()
        self.num_invalid += (counts < 0).sum()

    def tokens_seen(self) -> Tensor:
        """The tokens counted, in float64."""
        if self.num_invalid > 0:
            raise ValueError(f"num_tokens must not be negative; {int(self.num_invalid)} of the tensors given were")
        return self.num_tokens.to(torch.float64)

    def compute(self) -> Tensor:
        """(N / D) / (N / D)* of all tokens counted."""
        return scaling.chinchilla_optimality_index(self.num_params, self.tokens_seen(), self.tokens_per_param)

    @companion
    def excess_loss(self) -> Tensor:
        """Nats per token above the least loss for the same compute, by :func:`~scaling.chinchilla_excess_loss`."""
        return scaling.chinchilla_excess_loss(self.num_params, self.tokens_seen())
