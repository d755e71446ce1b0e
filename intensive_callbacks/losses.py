"""What can be optimized: losses with a gradient, for metrics that have none."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SparseAccuracyLoss"]


class SparseAccuracyLoss(nn.Module):
    r"""Cross-entropy plus a penalty that falls as the sparsity-adjusted accuracy rises, with a gradient everywhere.

    .. math:: L = CE + \alpha (1 - \bar p_{true} (1 - \rho))

    Where the metric counts right answers and active parameters, which are steps without a slope, this takes the mean
    probability of the true class and the active ratio that a gate expects: the mean of its probabilities, weighted by
    what each of its units costs. A gate that has no way to be sparser gets a gradient but cannot follow it.

    Args:
        alpha: weight of the penalty; at 0 the loss is the cross-entropy.

    Shape:
        - logits: ``[..., K]``.
        - target: ``[...]`` integers in [0, K).
        - active_ratio: a scalar in [0, 1] that depends on the gate's parameters.
        - Returns a scalar, at least 0.

    Raises:
        ValueError: if ``alpha`` is negative or not finite; on call, if ``active_ratio`` is no scalar.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 8, whose own loss has no gradient beside the
        cross-entropy's.

    Example:
        >>> import torch
        >>> gate = torch.zeros(4, requires_grad=True)
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> loss = SparseAccuracyLoss(alpha=0.1)(logits, torch.tensor([0, 1]), gate.sigmoid().mean())
        >>> loss.backward()
        >>> gate.grad
        tensor([0.0055, 0.0055, 0.0055, 0.0055])
    """

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__()
        if not (math.isfinite(alpha) and alpha >= 0):
            raise ValueError(f"alpha must be a finite number, at least 0, got {alpha}")
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor, active_ratio: Tensor) -> Tensor:
        """The loss of one batch."""
        if active_ratio.dim() > 0:
            raise ValueError(f"active_ratio must be a scalar, got {tuple(active_ratio.shape)}; average over the gates")
        log_p = logits.flatten(0, -2).log_softmax(-1)
        target = target.flatten()
        cross_entropy = functional.nll_loss(log_p, target)
        true_probability = log_p.gather(-1, target[:, None]).exp().mean()
        return cross_entropy + self.alpha * (1.0 - true_probability * (1.0 - active_ratio))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"alpha={self.alpha}"
