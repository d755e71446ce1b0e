"""The charts: each a Vega-Lite preset formed from the key cards, and the W&B table that it draws."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intensive_callbacks.dashboards.presets.benchmark import benchmark
from intensive_callbacks.dashboards.presets.frontier import frontier
from intensive_callbacks.dashboards.presets.heatmap import heatmap
from intensive_callbacks.dashboards.presets.overview import overview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PRESETS", "Preset", "preset_name"]


@dataclass(frozen=True)
class Preset:
    """A chart of ``dashboards/``.

    Attributes:
        title: what it is called in W&B's list of charts.
        table: the key of the W&B table that it draws.
        fields: the table's column for each ``${field:...}`` of the chart.
        build: forms the Vega-Lite.
    """

    title: str
    table: str
    fields: Mapping[str, str]
    build: Callable[[], dict[str, Any]]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_ROW = _same("model", "task", "protocol", "source")
_AMOUNTS = {
    "accuracy": "accuracy (fraction)",
    "active_params": "active params (B)",
    "total_params": "total params (B)",
    "num_flops": "FLOPs (GFLOP)",
    "num_bytes": "weights (GB)",
}

PRESETS = {
    "overview": Preset(
        "Intensive overview",
        "intensive_overview_table",
        _same("run", "metric", "step", "value"),
        overview,
    ),
    "heatmap": Preset(
        "Router heatmap",
        "routing_heatmap_table",
        _same("run", "step", "layer", "expert", "load"),
        heatmap,
    ),
    "frontier": Preset("Efficiency frontier", "final_benchmark", {**_ROW, **_AMOUNTS}, frontier),
    "benchmark": Preset("Benchmark table", "final_benchmark", {**_ROW, "best": "best in"}, benchmark),
}


def preset_name(name: str) -> str:
    """The name under which a chart is published: W&B changes no preset, so each content has its own."""
    content = json.dumps(PRESETS[name].build(), sort_keys=True)
    return f"intensive-{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
