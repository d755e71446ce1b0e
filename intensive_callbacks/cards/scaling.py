"""Parameters beside training tokens."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FRAMEWORKS, Card

CARDS = (
    Card(
        key="intensive/chinchilla_optimality",
        symbol="COI",
        meaning="active parameters per training token seen, times 20: above 1 under-trained, below 1 over-trained",
        unit="1",
        better="neither",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Scaling",
        metric="scaling.ChinchillaOptimalityIndex",
        fed_by="tokens",
    ),
)
