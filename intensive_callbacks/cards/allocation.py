"""How token budgets follow relevance."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FOUNDATIONS, SEED_FRAMEWORKS, Card

CARDS = (
    Card(
        key="intensive/query_coupling",
        symbol="QC3",
        meaning="Pearson correlation of relevance and token budgets over all patches",
        unit="1",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Coupling and routing",
        metric="allocation.QueryContentCoupling",
        fed_by="tap",
        band=(0.7, 1.0),
    ),
    Card(
        key="intensive/salience_divergence",
        symbol="KL",
        meaning="Kullback-Leibler divergence of human salience from the model's, mean over maps",
        unit="nat",
        better="lower",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="allocation.SalienceDivergence",
        fed_by="tap",
        default=False,
    ),
)
