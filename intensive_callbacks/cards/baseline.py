"""Counts and costs of the model that everything else is compared with."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FRAMEWORKS, Card

CARDS = (
    Card(
        key="baseline/random_accuracy",
        symbol="random accuracy",
        meaning="accuracy of chance, given or measured on the untrained model",
        unit="fraction",
        better="neither",
        size="intensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/total_params",
        symbol="params",
        meaning="all parameters, shared tensors counted once",
        unit="1",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/active_params",
        symbol="active params",
        meaning="parameters that one token (or example) touches",
        unit="1",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/num_bytes",
        symbol="bytes",
        meaning="resident weights: the bytes of parameters and buffers",
        unit="B",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/flops_per_token",
        symbol="FLOPs/token",
        meaning="floating point operations (1 MAC = 2) of one forward pass, per token, measured on a real batch",
        unit="FLOP",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
    Card(
        key="baseline/flops_per_example",
        symbol="FLOPs/example",
        meaning="the same per example, for a model that has no tokens",
        unit="FLOP",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
)
