"""Accuracy in view of the share of the parameters that is active."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FOUNDATIONS, SEED_FRAMEWORKS, Card

CARDS = (
    Card(
        key="intensive/relevance_rate",
        symbol="R3",
        meaning="(active / total parameters)·(accuracy / random baseline)",
        unit="1",
        better="neither",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Coupling and routing",
        metric="sparsity.RelevanceRealizationRate",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/sparsity_adjusted_accuracy",
        symbol="SAA",
        meaning="accuracy·(1 - active / total parameters); 0 for every dense model",
        unit="fraction",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Compression",
        metric="sparsity.SparsityAdjustedAccuracy",
        fed_by="accuracy",
    ),
    Card(
        key="intensive/sparse_retention",
        symbol="retention",
        meaning="accuracy of the pruned model over that of the dense model, on the same examples",
        unit="1",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="sparsity.SparseRetention",
        default=False,
    ),
)
