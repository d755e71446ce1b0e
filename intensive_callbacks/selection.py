"""Which metrics a run forms, and how one is built from what is known of the model."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torchmetrics import Metric

from intensive_callbacks.cards import CARDS, Card, card

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass
class Selected:
    """One metric under its key: a card's class, built when it is needed, or a metric that the user made."""

    card: Card
    metric: Metric | None = None
    asked: bool = True  # by name or as an object, not as one of the default

    def missing(self, facts: Mapping[str, float]) -> list[str]:
        """The facts its constructor asks for that are not known."""
        return [] if self.metric else [name for name in required_facts(self.card) if name not in facts]

    def build(self, facts: Mapping[str, float]) -> Metric:
        """A fresh metric from the facts, or the user's own, emptied."""
        metric = self.metric
        if metric is None:
            metric = metric_class(self.card)(**{name: facts[name] for name in required_facts(self.card)})
        metric.reset()
        metric._to_sync = False  # noqa: SLF001 - what it is fed is reduced already
        metric._explained = True  # noqa: SLF001 - the Monitor warns once in a run, not once for each built metric
        return metric

    @property
    def undefined(self) -> str:
        """When its value is NaN."""
        described = metric_class(self.card) if self.metric is None else self.metric
        return getattr(described, "undefined", "no data has come")


def metric_class(card: Card) -> Any:
    """The class that a card names."""
    module, _, name = str(card.metric).partition(".")
    return getattr(import_module(f"intensive_callbacks.metrics.{module}"), name)


def required_facts(card: Card) -> list[str]:
    """The names of the arguments that the card's class cannot be built without."""
    parameters = inspect.signature(metric_class(card)).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def select(metrics: str | Iterable[str | Metric]) -> list[Selected]:
    """What ``metrics=`` asks for: ``"default"``, or exactly these symbols, keys and Metric objects.

    Among them ``"default"`` stands for all that it means alone.

    Raises:
        KeyError: if a name is no card's key or symbol.
        ValueError: if a name is a key without a metric, or a Metric cannot be fed.
    """
    default = [Selected(each, asked=False) for each in CARDS if each.metric and each.default and each.fed_by != "tap"]
    if metrics == "default":
        return default
    if isinstance(metrics, str):
        raise ValueError(f'metrics must be "default" or a list of symbols, keys and Metric objects, got {metrics!r}')
    # A Metric's == is a Metric, and true.
    asked = [None if isinstance(each, str) and each == "default" else _select_one(each) for each in metrics]
    named = [each for each in asked if each is not None]
    keys = {each.card.key for each in named}
    return [*(each for each in default if None in asked and each.card.key not in keys), *named]


def _select_one(wanted: str | Metric) -> Selected:
    if isinstance(wanted, Metric):
        found = card_of(wanted)
        if found.fed_by == "tap":
            raise ValueError(
                f"{type(wanted).__name__} needs a signal from inside the model: pass taps=[Tap(module, read, metric)]"
            )
        return Selected(found, wanted)
    found = card(wanted)
    if not found.metric:
        raise ValueError(f"{wanted!r} is logged by itself and is no metric to be chosen")
    if found.fed_by is None:
        raise ValueError(f"{found.symbol} is formed by call, not in a run: see {found.metric}")
    if found.fed_by == "tap":
        raise ValueError(
            f"{found.symbol} needs a signal from inside the model: pass taps=[Tap(module, read, {wanted!r})]"
        )
    return Selected(found)


def select_tap(into: str | Metric) -> Selected:
    """The metric that a Tap feeds."""
    return Selected(card(into)) if isinstance(into, str) else Selected(card_of(into), into)


def card_of(metric: Metric) -> Card:
    """The card of a metric's class; a user's own class gets one, ``intensive/<its name>``."""
    name = type(metric).__name__
    for candidate in CARDS:
        if candidate.metric and candidate.metric.partition(".")[2] == name:
            return candidate
    accepts = inspect.signature(metric.update).parameters
    better: Any = {True: "higher", False: "lower", None: "neither"}[metric.higher_is_better]
    return Card(
        key="intensive/" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(),
        symbol=name,
        meaning=inspect.getdoc(metric) or name,
        unit="1",
        better=better,
        size="intensive",
        source="the user",
        section="Efficiency",
        metric=f"{type(metric).__module__}.{name}",
        fed_by="accuracy" if "accuracy" in accepts else "tap",
    )
