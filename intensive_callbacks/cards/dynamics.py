"""Information that flows in time."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FOUNDATIONS, Card

CARDS = (
    Card(
        key="intensive/transfer_entropy",
        symbol="TE",
        meaning="I(Y_next; X_now | Y_now) of two discrete series, minus the value of shuffled surrogates",
        unit="bit per step",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="dynamics.TransferEntropy",
        fed_by="tap",
        default=False,
    ),
    Card(
        key="intensive/gaussian_transfer_entropy",
        symbol="TE (Gaussian)",
        meaning="the same for continuous series, taken as Gaussian, bias-corrected",
        unit="bit per step",
        better="neither",
        size="intensive",
        source=SEED_FOUNDATIONS,
        section="Foundations",
        metric="dynamics.GaussianTransferEntropy",
        fed_by="tap",
        default=False,
    ),
)
