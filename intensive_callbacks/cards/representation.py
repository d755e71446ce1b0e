"""The geometry of representations, over layers."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FOUNDATIONS, Card

CARDS = (
    Card(
        key="intensive/effective_dimensionality",
        symbol="D_eff",
        meaning="effective rank exp(H) of the covariance spectrum of a representation",
        unit="1",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="representation.EffectiveDimensionality",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/layerwise_mean",
        symbol="layer mean",
        meaning="mean of a quantity over layers, with an error corrected for their correlation",
        unit="1",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="representation.LayerwiseMean",
        fed_by="tap",
        default=False,
    ),
)
