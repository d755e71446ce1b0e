"""From one logging step's window to values under their keys: each metric is computed, converted and kept alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.functional import layerwise_standard_error
from intensive_callbacks.monitor.facts import SOURCES
from intensive_callbacks.monitor.signals import SIGNALS
from intensive_callbacks.monitor.states import compute_unwrapped, put_states, standard_error, update_unwrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.cards import Card
    from intensive_callbacks.monitor.facts import ModelFacts
    from intensive_callbacks.monitor.feeds import Feeds
    from intensive_callbacks.monitor.selection import Selected
    from intensive_callbacks.monitor.window import Window
    from intensive_callbacks.routing.sums import RoutingSums

MAX_VALUES = 32  # of one metric


@dataclass
class Results:
    """What one logging step gives.

    Attributes:
        values: by key.
        errors: the standard error of each value that has one, by key.
        undefined: for each key that is NaN, when that is so.
        absent: for each metric that was asked for and cannot be computed, by its symbol, what is missing.
    """

    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Add values that are known without a metric."""
        self.values |= values

    def take(self, selected: Selected, value: Any, error: float | Tensor | None) -> None:
        """Add what one metric computed."""
        key = selected.card.key
        values = {key: value} if isinstance(value, float) else named_values(key, value)
        self.values |= values
        if math.isnan(values.get(key, 0.0)):
            self.undefined[key] = selected.undefined
        if error is not None:
            self.errors[key] = float(error)


@torch.no_grad()
def evaluate(
    window: Window,
    facts: ModelFacts,
    selected: Sequence[Selected],
    feeds: Feeds,
    boundary: Boundary,
    *,
    per_layer: bool,
) -> Results:
    """The values of one logging step; what fails is reported to the boundary and takes nothing else along.

    Args:
        window: what all processes have seen since the last one.
        facts: what is known of the model, this window included.
        selected: the metrics of the run.
        feeds: which metrics the states in the window belong to.
        boundary: what an exception in a metric is reported to.
        per_layer: also give the routing values of every layer.
    """
    results = Results()
    if window.is_first:
        results.add(facts.baseline())
    if window.is_due:
        results.add(facts.costs())
    known = facts.by_argument
    tables = {id(routing): _LayerTable(routing) for routing in (window.training, window.validation) if routing}
    for each in selected:
        if each.card.fed_by != "routing":
            boundary.call(each.card.symbol, _from_signal, results, each, window, facts)
        elif routing := routing_of(each.card, window):
            boundary.call(each.card.symbol, tables[id(routing)].compute, each, known)
    for name, each in {**feeds.tapped, **feeds.gradients}.items():
        if name in window.sums and name not in window.failed:
            boundary.call(each.card.symbol, _from_states, results, each, name, window, facts)
    if feeds.sampled:
        boundary.call("metrics of routers' samples", _from_samples, tables, feeds, window, known)
    for table in tables.values():
        boundary.call("the means over layers", table.take_into, results, per_layer=per_layer)
    return results


def _from_signal(results: Results, selected: Selected, window: Window, facts: ModelFacts) -> None:
    signal = SIGNALS[str(selected.card.fed_by)]
    if signal.read is None:
        return
    if window.quality.unusable and "accuracy" in signal.provides:
        results.add({selected.card.key: math.nan})  # why was said where it came
        return
    arguments = signal.read(window, facts)
    if arguments is None:
        return
    missing = selected.missing(facts.by_argument)
    if missing:
        if selected.asked and (facts.num_windows or missing != ["num_joules"]):
            results.absent[selected.card.symbol] = "; ".join(dict.fromkeys(SOURCES[name] for name in missing))
        return
    metric = selected.metric(facts.by_argument)
    put_states(metric, {}, {})
    update_unwrapped(metric, {name: value for name, value in arguments.items() if name in selected.accepted})
    results.take(selected, compute_unwrapped(metric), standard_error(metric))


def _from_states(results: Results, selected: Selected, name: str, window: Window, facts: ModelFacts) -> None:
    metric = selected.metric(facts.by_argument)
    put_states(metric, window.sums[name], window.samples[name])
    if "accuracy" in selected.accepted:
        # Labels come with batches, the accuracy when it is fresh: without it there is nothing new to say.
        arguments = SIGNALS["accuracy"].read(window, facts)  # type: ignore[misc] # this one is read
        if arguments is None:
            return
        update_unwrapped(metric, {key: value for key, value in arguments.items() if key in selected.accepted})
    results.take(selected, compute_unwrapped(metric), standard_error(metric))


def _from_samples(tables: Mapping[int, _LayerTable], feeds: Feeds, window: Window, facts: Mapping[str, float]) -> None:
    """The routing metrics that saw every decision themselves, one for each layer."""
    for name, (selected, layer) in feeds.sampled.items():
        routing = window.training
        if routing and name in window.sums and name not in window.failed:
            metric = selected.metric({**facts, "num_experts": feeds.num_experts(layer)})
            put_states(metric, window.sums[name], window.samples[name])
            tables[id(routing)].put(selected, layer, float(compute_unwrapped(metric)))


class _LayerTable:
    """The values of routing metrics in the layers of one window: a row for each metric, a column for each layer."""

    def __init__(self, routing: RoutingSums) -> None:
        self.routing = routing
        self._place = {layer: place for place, layer in enumerate(routing.layers)}
        self._rows: dict[str, tuple[Selected, Tensor]] = {}

    def compute(self, selected: Selected, facts: Mapping[str, float]) -> None:
        """Compute a metric in every layer: layers with equally many experts together."""
        row = torch.empty(len(self._place), dtype=torch.float64)
        for group in self.routing.groups:
            known = {**facts, "num_experts": group.num_experts}
            if selected.missing(known) or not selected.reads_routing_sums(known):
                return
            metric = selected.metric(known)
            put_states(metric, group.states(), {})
            values = compute_unwrapped(metric).reshape(-1)
            if len(self.routing.groups) == 1:
                row = values.double()
            else:
                row[[self._place[layer] for layer in group.layers]] = values.double()
        self._rows[selected.card.key] = selected, row

    def put(self, selected: Selected, layer: str, value: float) -> None:
        """Set a metric's value in one layer."""
        nothing = torch.full((len(self._place),), math.nan, dtype=torch.float64)
        self._rows.setdefault(selected.card.key, (selected, nothing))[1][self._place[layer]] = value

    def take_into(self, results: Results, *, per_layer: bool) -> None:
        """Add the mean over layers with its standard error, the worst layer, and each on request."""
        if not self._rows:
            return
        values = torch.stack([row for _, row in self._rows.values()])
        means, errors = values.nanmean(-1), layerwise_standard_error(values)
        least, most = (torch.where(values.isnan(), sign * torch.inf, values) for sign in (1, -1))
        figures = torch.stack([means, errors, least.amin(-1), most.amax(-1)], -1).tolist()
        for (selected, row), (mean, error, low, high) in zip(self._rows.values(), figures, strict=True):
            card = selected.card
            # Where some layers are undefined, it is that of the others.
            others = row[~row.isnan()] if math.isnan(error) else row[:0]
            known = float(layerwise_standard_error(others)) if len(others) else error
            results.take(selected, mean, known)
            if card.better != "neither" and len(self._place) > 1:
                worst = low if card.better == "higher" else high
                results.add({f"{card.key}_worst": math.nan if math.isnan(mean) else worst})
            if per_layer:
                name = card.key.partition("/")[2]
                layers = zip(self._place, row.tolist(), strict=True)
                results.add({f"routing_by_layer/{name}/{layer}": value for layer, value in layers})
                results.add({f"{card.key}_standard_error": known})


def routing_of(card: Card, window: Window) -> RoutingSums | None:
    """The routing that a key is about: ``intensive/`` of the validation where there is one, all else of training."""
    if card.key.startswith("intensive/") and window.validates:
        if window.validation is None:
            return None
        if window.validation.num_tokens > 0:
            return window.validation
        # An evaluation that never ran this model leaves only what training has seen.
    return window.training if window.is_due else None


def named_values(key: str, value: Any) -> dict[str, float]:
    """What a metric computed as numbers under keys: several get one key each.

    Raises:
        ValueError: if it has a shape that nobody can log.
    """
    if isinstance(value, Mapping):
        # One that computes several says which of them is the value itself.
        pieces = {key if name == "value" else f"{key}_{name}": each for name, each in value.items()}
        return {name: number for part, each in pieces.items() for name, number in named_values(part, each).items()}
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
    if tensor.numel() == 1:
        return {key: float(tensor)}
    if tensor.dim() == 1 and 0 < tensor.numel() <= MAX_VALUES:
        return {f"{key}_{index}": number for index, number in enumerate(tensor.double().tolist())}
    raise ValueError(
        f"{key} has the shape {list(tensor.shape)}, which cannot be logged: compute one number, up to {MAX_VALUES} in "
        "one dimension, or a dict of them"
    )
