"""From reduced sums to values: the metrics of one logging step, each under its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.functional import layerwise_standard_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torchmetrics import Metric

    from intensive_callbacks.cards import Card
    from intensive_callbacks.gathered import Window
    from intensive_callbacks.selection import Selected

Values = dict[str, Tensor]


def layer_values(selected: Selected, window: Window, facts: Mapping[str, float]) -> Values:
    """One routing metric of every layer of a window, in the order of depth.

    Layers with equally many experts are formed together: their states are stacked to ``[L, ...]``.
    """
    groups: dict[int, list[str]] = {}
    for layer, states in window.items():
        groups.setdefault(states["load"].shape[0], []).append(layer)
    layers: Values = {}
    for num_experts, names in groups.items():
        metric = selected.build({**facts, "num_experts": num_experts}).to(window[names[0]]["load"].device)
        metric.merge_state(
            {state: torch.stack([window[name][state] for name in names]) for state in metric.metric_state}
        )
        # torchmetrics squeezes what has one element.
        layers.update(zip(names, metric.compute().reshape(len(names)).unbind(), strict=True))
    return {layer: layers[layer] for layer in window}


def over_layers(card: Card, layers: Values, *, per_layer: bool) -> tuple[Values, Values]:
    """The mean of a metric over layers, the worst, and each on request; and the standard error of the mean."""
    stacked = torch.stack(list(layers.values()))
    values = {card.key: stacked.nanmean()}
    errors = {card.key: layerwise_standard_error(stacked[~stacked.isnan()])}
    if card.better != "neither" and len(layers) > 1:
        values[f"{card.key}/worst"] = stacked.min() if card.better == "higher" else stacked.max()
    if per_layer:
        values |= {f"{card.key}/{layer}": value for layer, value in layers.items()}
        values[f"{card.key}/standard_error"] = errors[card.key]
    return values, errors


def feed(metric: Metric, signals: Mapping[str, Any]) -> Metric:
    """A metric that was given those of the signals that its update takes."""
    metric.update(**metric._filter_kwargs(**signals))  # noqa: SLF001 - how MetricCollection passes arguments on
    return metric


def named(key: str, value: Tensor | Mapping[str, Tensor]) -> Values:
    """A value under its key; of a metric that computes several, ``value`` under the key and the others below it."""
    if isinstance(value, Tensor):
        return {key: value}
    return {key if name == "value" else f"{key}/{name}": each for name, each in value.items()}


def standard_errors(key: str, metric: Metric) -> Values:
    """The standard error of a metric that has one, under the metric's key."""
    formed: Callable[[], Tensor] | None = getattr(metric, "standard_error", None)
    return {} if formed is None else {key: formed()}


def to_floats(values: Values) -> dict[str, float]:
    """All values on the host, in one transfer from each device."""
    floats: dict[str, float] = {}
    for device in {value.device for value in values.values()}:
        there = {key: value for key, value in values.items() if value.device == device}
        dtype = torch.float32 if device.type == "mps" else torch.float64
        floats |= dict(zip(there, torch.stack([value.to(dtype) for value in there.values()]).tolist(), strict=True))
    return {key: floats[key] for key in values}
