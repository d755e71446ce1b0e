"""Energy, order and the cost of erasing bits."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FOUNDATIONS, Card

CARDS = (
    Card(
        key="intensive/free_energy",
        symbol="F",
        meaning="free energy -ln sum exp(logits) of a router or classifier, mean over samples",
        unit="nat",
        better="neither",
        size="extensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="thermodynamics.FreeEnergy",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/order_parameter",
        symbol="φ",
        meaning="accuracy above chance, accuracy - random baseline",
        unit="fraction",
        better="higher",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="thermodynamics.OrderParameter",
        fed_by="accuracy",
        default=False,
    ),
    Card(
        key="intensive/landauer_ratio",
        symbol="J/Landauer",
        meaning="measured energy over k·T·ln 2 for each bit erased",
        unit="1",
        better="lower",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="thermodynamics.LandauerRatio",
        fed_by="energy",
        default=False,
    ),
)
