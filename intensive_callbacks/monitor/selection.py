"""Which metrics a run computes, what feeds each, and how one is built from what is known of the model."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from intensive_callbacks import cards
from intensive_callbacks.boundary import Refused
from intensive_callbacks.cards import Card
from intensive_callbacks.monitor.facts import SOURCES
from intensive_callbacks.monitor.signals import SIGNALS
from intensive_callbacks.monitor.states import arguments_of_update, state_names
from intensive_callbacks.routing.statistics import row_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass
class Selected:
    """One metric under its key: a card's class, built when it is needed, or a metric that the user made.

    Attributes:
        card: what is said about it.
        given: the user's own metric.
        asked: whether it was asked for by name or as an object, not as one of the default.
        learned: sizes that the first batch has shown, by the name of the constructor's argument.
    """

    card: Card
    given: Metric | None = None
    asked: bool = True
    learned: dict[str, int] = field(default_factory=dict)
    _built: dict[tuple[float, ...], Metric] = field(default_factory=dict, repr=False)
    _reads_sums: bool | None = field(default=None, repr=False)

    @cached_property
    def metric_class(self) -> Any:
        """The class behind it."""
        return type(self.given) if self.given is not None else metric_class(self.card)

    @cached_property
    def required(self) -> list[str]:
        """The facts that its constructor requires."""
        return [] if self.given is not None else required_facts(self.metric_class)

    @cached_property
    def accepted(self) -> set[str]:
        """The names of the arguments that its ``update`` takes."""
        return arguments_of_update(self.metric_class)[1]

    @cached_property
    def learnable(self) -> Mapping[str, str]:
        """The sizes that a batch shows: the argument of ``update`` whose last dimension each one is."""
        return LEARNABLE.get(self.metric_class.__name__, {}) if self.given is None else {}

    def learn(self, *args: Any, **kwargs: Any) -> None:
        """Learn the sizes from the arguments of the first ``update``."""
        arguments = inspect.signature(self.metric_class.update).bind(None, *args, **kwargs).arguments
        self.restore({size: torch.as_tensor(arguments[name]).shape[-1] for size, name in self.learnable.items()})

    def restore(self, learned: Mapping[str, int]) -> None:
        """Take the sizes that were learned before."""
        self.learned = dict(learned)

    def missing(self, facts: Mapping[str, float]) -> list[str]:
        """The required facts that are not known."""
        known = self._known(facts)
        return [self._facts_of_run.get(name, name) for name in self.required if name not in known]

    @property
    def _facts_of_run(self) -> Mapping[str, str]:
        """The facts that constructor's arguments of other names take."""
        return {**getattr(self.metric_class, "facts_of_run", {}), **dict(self.card.takes)}

    def _known(self, facts: Mapping[str, float]) -> dict[str, float]:
        """What is known for the constructor's arguments: the fact of each name, unless the class takes another."""
        others = self._facts_of_run
        renamed = {name: facts[fact] for name, fact in others.items() if fact in facts}
        return {**{name: value for name, value in facts.items() if name not in others}, **renamed, **self.learned}

    def metric(self, facts: Mapping[str, float]) -> Metric:
        """The metric for these facts, built once: the caller overwrites its states."""
        if self.given is not None:
            return self.given
        known = self._known(facts)
        values = tuple(known[name] for name in self.required)
        if values not in self._built:
            if len(self._built) >= MAX_BUILT:
                self._built.clear()
            arguments = dict(zip(self.required, values, strict=True))
            # What it is fed is reduced already.
            self._built[values] = self.metric_class(**arguments, **_without_synchronization(self.metric_class))
        return self._built[values]

    def fresh(self, facts: Mapping[str, float]) -> Metric:
        """A metric of its own, without data, to be fed as the model runs."""
        if self.given is not None:
            metric: Metric = self.given.clone()
            metric.reset()
        else:
            known = self._known(facts)
            metric = self.metric_class(**{name: known[name] for name in self.required})
        return metric

    def reads_routing_sums(self, facts: Mapping[str, float]) -> bool:
        """Whether the states are sums that every router's accumulator has."""
        if self._reads_sums is None:
            self._reads_sums = {*state_names(self.metric(facts))} <= row_columns(1).keys()
        return self._reads_sums

    @property
    def undefined(self) -> str:
        """When its value is NaN."""
        return getattr(self.metric_class, "undefined", "no data has come")


# By class, the sizes that a batch shows: the argument of ``update`` whose last dimension each one is. A number of
# categories is none: the first batch need not have all of them.
LEARNABLE = {
    "EffectiveDimensionality": {"num_features": "features"},
    "GaussianTransferEntropy": {"num_source": "source", "num_target": "target"},
    "IntegratedInformation": {"num_components": "states"},
    "LayerwiseMean": {"num_layers": "values"},
    "TaskInformation": {"num_classes": "logits"},
}

# One for each number of experts, and for a few active sizes.
MAX_BUILT = 8


def _without_synchronization(kind: Any) -> dict[str, Any]:
    takes_settings = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(kind).parameters.values())
    return {"sync_on_compute": False} if takes_settings else {}


def metric_class(card: Card) -> Any:
    """The class that a card names, or that was registered with it."""
    if (registered := cards.registered_class(card.key)) is not None:
        return registered
    module, _, name = str(card.metric).partition(".")
    return getattr(import_module(f"intensive_callbacks.metrics.{module}"), name)


def required_facts(kind: Any) -> list[str]:
    """The names of the arguments that a class cannot be built without."""
    parameters = inspect.signature(kind).parameters.values()
    variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    return [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]


def select(metrics: str | Iterable[str | Metric]) -> list[Selected]:
    """What ``metrics=`` asks for: ``"default"``, or exactly these symbols, keys and Metric objects.

    Among them ``"default"`` stands for all that it means alone.

    Raises:
        KeyError: if a name is no card's key or symbol.
        ValueError: if a name is a key without a metric, or a Metric cannot be fed.
    """
    known = [each for each in cards.CARDS if each.metric or cards.registered_class(each.key)]
    default = [Selected(each, asked=False) for each in known if each.default and each.fed_by not in {None, "tap"}]
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
        selected = Selected(card_of(wanted), wanted)
        if selected.card.fed_by == "tap":
            raise ValueError(
                f"{type(wanted).__name__} needs a signal from inside the model: pass taps=[Tap(module, read, metric)]"
            )
        return selected
    found = cards.card(wanted)
    if not found.metric and not cards.registered_class(found.key):
        raise ValueError(f"{wanted!r} is logged by itself and is no metric to be chosen")
    if found.fed_by is None:
        raise ValueError(f"{found.symbol} is formed by call, not in a run: see {found.metric}")
    if found.fed_by == "tap":
        raise ValueError(
            f"{found.symbol} needs a signal from inside the model: pass taps=[Tap(module, read, {wanted!r})]"
        )
    if found.fed_by not in SIGNALS:
        raise ValueError(f"{found.symbol} is fed by {found.fed_by!r}, which is no signal; there are {sorted(SIGNALS)}")
    selected = Selected(found)
    refuse_unknown_facts(selected)
    return selected


def select_tap(into: str | Metric) -> Selected:
    """The metric that a Tap feeds.

    Raises:
        KeyError: if a name is no card's key or symbol.
        ValueError: if the metric that is named needs what no run knows.
    """
    if isinstance(into, Metric):
        return Selected(card_of(into), into)
    selected = Selected(cards.card(into))
    refuse_unknown_facts(selected)
    return selected


def refuse_unknown_facts(selected: Selected) -> None:
    """Raise ``ValueError`` if a metric's constructor requires what no run ever knows."""
    unknown = [name for name in selected.required if name not in SOURCES and name not in selected.learnable]
    if unknown:
        name = selected.metric_class.__name__
        arguments = ", ".join(f"{argument}=..." for argument in unknown)
        raise Refused(
            f"{selected.card.symbol} cannot be built from its name: {name} requires {', '.join(unknown)}, and a run "
            f"knows only {', '.join(SOURCES)}. Pass a metric that is built already, {name}({arguments})"
        )


def card_of(metric: Metric) -> Card:
    """The card of a metric's class; a class that has none gets one of its own."""
    for candidate in cards.CARDS:
        named = candidate.metric and candidate.metric.partition(".")[2] == type(metric).__name__
        if (named or cards.registered_class(candidate.key)) and metric_class(candidate) is type(metric):
            return candidate
    fed_by = signal_of(metric)
    better: Any = {True: "higher", False: "lower", None: "neither"}[metric.higher_is_better]
    return Card(
        key=_own_key(type(metric).__name__, "routing" if fed_by == "routing" else "intensive"),
        symbol=type(metric).__name__,
        meaning=inspect.getdoc(metric) or type(metric).__name__,
        unit="1",
        better=better,
        size="intensive",
        source="the user",
        section="Coupling and routing" if fed_by == "routing" else "Efficiency",
        fed_by=fed_by,
    )


def _own_key(name: str, prefix: str) -> str:
    """``intensive/its_name``, or ``intensive/own_its_name`` where a card has that key."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    key = f"{prefix}/{snake}"
    return f"{prefix}/own_{snake}" if any(each.key == key for each in cards.CARDS) else key


def signal_of(metric: Metric) -> str:
    """The first signal that gives all that a metric's ``update`` requires; ``"tap"`` where none does."""
    required, _ = arguments_of_update(metric)
    fitting = (signal.name for signal in SIGNALS.values() if required and required <= {*signal.provides})
    return next(fitting, "tap")
