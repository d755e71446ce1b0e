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

    def take(self, selected: Selected, value: Any, error: Tensor | None) -> None:
        """Add what one metric computed."""
        key = selected.card.key
        values = named_values(key, value)
        self.values |= values
        if math.isnan(values.get(key, 0.0)):
            self.undefined[key] = selected.undefined
        if error is not None:
            self.errors[key] = float(error)


@torch.no_grad()
def evaluate(
    window: Window, facts: ModelFacts, selected: Sequence[Selected], feeds: Feeds, boundary: Boundary, *, per_layer: bool
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
    known = facts.by_argument
    for each in selected:
        if each.card.fed_by == "routing":
            boundary.call(each.card.symbol, _from_routing, results, each, window, known, per_layer=per_layer)
        else:
            boundary.call(each.card.symbol, _from_signal, results, each, window, facts)
    for name, each in {**feeds.tapped, **feeds.gradients}.items():
        if name in window.sums and name not in window.failed:
            boundary.call(each.card.symbol, _from_states, results, each, name, window, facts)
    boundary.call("metrics of routing", _from_samples, results, feeds, window, known, per_layer=per_layer)
    return results


def _from_signal(results: Results, selected: Selected, window: Window, facts: ModelFacts) -> None:
    signal = SIGNALS[str(selected.card.fed_by)]
    if signal.read is None:
        return
    if window.quality.unusable and "accuracy" in signal.provides:
        results.values[selected.card.key] = math.nan  # why was said where it came
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


def _from_routing(
    results: Results, selected: Selected, window: Window, facts: Mapping[str, float], *, per_layer: bool
) -> None:
    """One routing metric of every layer: layers with equally many experts are computed together."""
    routing = routing_of(selected.card, window)
    if not routing or not routing.groups:
        return
    layers: dict[str, float] = {}
    for group in routing.groups:
        known = {**facts, "num_experts": group.num_experts}
        if selected.missing(known) or not selected.reads_routing_sums(known):
            return
        metric = selected.metric(known)
        put_states(metric, group.states(), {})
        values = torch.as_tensor(compute_unwrapped(metric), dtype=torch.float64)
        layers.update(zip(group.layers, values.reshape(len(group.layers)).tolist(), strict=True))
    _take_layers(results, selected, {name: layers[name] for name in routing.layers}, per_layer=per_layer)


def _from_samples(
    results: Results, feeds: Feeds, window: Window, facts: Mapping[str, float], *, per_layer: bool
) -> None:
    """The routing metrics that saw every decision themselves, one for each layer."""
    layers: dict[str, dict[str, float]] = {}
    chosen: dict[str, Selected] = {}
    for name, (selected, layer) in feeds.sampled.items():
        if name in window.sums and name not in window.failed:
            num_experts = feeds.num_experts(layer)
            metric = selected.metric({**facts, "num_experts": num_experts})
            put_states(metric, window.sums[name], window.samples[name])
            layers.setdefault(selected.card.key, {})[layer] = float(compute_unwrapped(metric))
            chosen[selected.card.key] = selected
    for key, values in layers.items():
        _take_layers(results, chosen[key], values, per_layer=per_layer)


def _take_layers(results: Results, selected: Selected, layers: Mapping[str, float], *, per_layer: bool) -> None:
    """The mean over layers with its standard error, the worst layer, and each on request."""
    card = selected.card
    defined = torch.tensor([value for value in layers.values() if not math.isnan(value)], dtype=torch.float64)
    mean = float(defined.mean()) if len(defined) else math.nan
    error = layerwise_standard_error(defined)
    results.take(selected, mean, error)
    if card.better != "neither" and len(layers) > 1:
        worst = defined.min() if card.better == "higher" else defined.max()
        results.values[f"{card.key}_worst"] = float(worst) if len(defined) else math.nan
    if per_layer:
        name = card.key.partition("/")[2]
        results.values |= {f"routing_by_layer/{name}/{layer}": value for layer, value in layers.items()}
        results.values[f"{card.key}_standard_error"] = float(error)


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
