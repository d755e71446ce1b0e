"""What training costs while it runs."""

from __future__ import annotations

from intensive_callbacks.cards.base import SEED_FRAMEWORKS, Card

CARDS = (
    Card(
        key="cost/tokens_per_second",
        symbol="tokens/s",
        meaning="training tokens without padding, of all processes, per second of wall-clock time, validation excluded",
        unit="tokens per second",
        better="higher",
        size="ratio",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/examples_per_second",
        symbol="examples/s",
        meaning="the same in examples, for a model that has no tokens",
        unit="examples per second",
        better="higher",
        size="ratio",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/joules_per_token",
        symbol="J/token",
        meaning="energy of training per token, read from the GPUs' own counters; absent without them",
        unit="J",
        better="lower",
        size="extensive",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/joules_per_example",
        symbol="J/example",
        meaning="the same per example, for a model that has no tokens",
        unit="J",
        better="lower",
        size="extensive",
        source="this library",
        section="Efficiency",
    ),
    Card(
        key="cost/peak_memory",
        symbol="training memory",
        meaning="peak memory of training so far: the allocator's on a single GPU; otherwise the sum of weights, "
        "gradients and optimizer states, without activations",
        unit="B",
        better="lower",
        size="extensive",
        source=SEED_FRAMEWORKS,
        section="Efficiency",
    ),
)
