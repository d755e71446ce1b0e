"""Every logged key as data: what it is called, what it means, in which unit, and which metric computes it.

This is the single source for the README's table, the dashboards, the benchmark's columns and the tests. A metric's card
names its class by ``module.Class`` below ``intensive_callbacks.metrics``; the Monitor fills the constructor's required
arguments with the facts of the same names and feeds ``update`` from the signal in ``fed_by``. There is one file for
each category of metrics. Read ``cards.CARDS`` where it is used: :func:`register_card` adds to it.
"""

from __future__ import annotations

from intensive_callbacks.cards import (
    allocation,
    baseline,
    compression,
    cost,
    dynamics,
    efficiency,
    gradient_noise,
    information,
    representation,
    routing,
    scaling,
    sparsity,
    thermodynamics,
)
from intensive_callbacks.cards.base import SEED_DENSITY, SEED_FOUNDATIONS, SEED_FRAMEWORKS, Card

__all__ = [
    "CARDS",
    "SEED_DENSITY",
    "SEED_FOUNDATIONS",
    "SEED_FRAMEWORKS",
    "Card",
    "card",
    "markdown_table",
    "register_card",
    "registered_class",
]

CARDS: tuple[Card, ...] = (
    *baseline.CARDS,
    *cost.CARDS,
    *efficiency.CARDS,
    *sparsity.CARDS,
    *routing.CARDS,
    *allocation.CARDS,
    *compression.CARDS,
    *scaling.CARDS,
    *information.CARDS,
    *representation.CARDS,
    *thermodynamics.CARDS,
    *dynamics.CARDS,
    *gradient_noise.CARDS,
)

_REGISTERED: dict[str, type] = {}


def card(name: str) -> Card:
    """The card with this key or symbol.

    Raises:
        KeyError: if no card bears the name; the message lists those there are.

    Example:
        >>> card("P3").key
        'intensive/p3_score'
    """
    for candidate in CARDS:
        if name in (candidate.key, candidate.symbol):
            return candidate
    known = ", ".join(f"{each.symbol} ({each.key})" for each in CARDS if each.metric or each.key in _REGISTERED)
    raise KeyError(f"no metric has the key or symbol {name!r}; there are {known}")


def register_card(new: Card, metric: type) -> None:
    """Add a metric of your own: from then on it can be asked for by key or symbol.

    Registering a key again, as a notebook cell that is run twice does, replaces its card.

    Args:
        new: its card. ``fed_by`` names what feeds ``update``: ``"accuracy"``, ``"tokens"``, ``"energy"``,
            ``"gradients"``, ``"routing"``, a signal of your own (:func:`register_signal`), or ``"tap"``.
        metric: its class, a ``torchmetrics.Metric``. The facts that its constructor requires are passed by name.

    Raises:
        ValueError: if the key or the symbol belongs to another card, or the key is another key plus ``"/..."``.
    """
    global CARDS  # noqa: PLW0603 - the registry is this module
    others = tuple(each for each in CARDS if not (each.key == new.key and each.key in _REGISTERED))
    for other in others:
        if new.key == other.key or new.symbol == other.symbol:
            raise ValueError(
                f"the key {new.key!r} or the symbol {new.symbol!r} belongs to {other.key} ({other.symbol})"
            )
        if f"{new.key}/".startswith(f"{other.key}/") or f"{other.key}/".startswith(f"{new.key}/"):
            raise ValueError(f"no key may be another key plus '/...', got {new.key!r} beside {other.key!r}")
    CARDS = (*others, new)
    _REGISTERED[new.key] = metric


def registered_class(key: str) -> type | None:
    """The class that was registered with a card, or ``None``."""
    return _REGISTERED.get(key)


def markdown_table() -> str:
    """The table of logged keys, as the README shows it."""
    rows = ["| key | symbol | meaning | unit | better | when widened | logged |", "|---|---|---|---|---|---|---|"]
    rows += [
        f"| `{card.key}` | {card.symbol} | {card.meaning} | {card.unit} | {card.better} | {card.size} | {card.logged} |"
        for card in CARDS
    ]
    return "\n".join(rows)
