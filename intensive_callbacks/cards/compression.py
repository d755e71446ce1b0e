"""Information per parameter."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FRAMEWORKS, Card

CARDS = (
    Card(
        key="intensive/compression_ratio",
        symbol="ECR",
        meaning="I(input; output) / log2(total parameters); by default a classifier's channel: H(mean p) - mean H(p)",
        unit="bits per log2 param",
        better="higher",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Compression",
        metric="compression.EffectiveCompressionRatio",
        fed_by="tap",
    ),
)
