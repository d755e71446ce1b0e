"""The noise of the gradient and the batch size it suggests."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FOUNDATIONS, Card

CARDS = (
    Card(
        key="intensive/critical_batch_size",
        symbol="B_crit",
        meaning="gradient noise scale tr(Σ) / |G|², averaged over steps",
        unit="examples",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="gradient_noise.CriticalBatchSize",
        fed_by="gradients",
        default=False,
    ),
)
