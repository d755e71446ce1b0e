"""The charts as W&B presets: what each is called, which table it draws and which columns it asks for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intensive_callbacks.dashboards.templates import load

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Preset:
    """A chart of ``dashboards/``.

    Attributes:
        title: what it is called in W&B's list of charts.
        table: the key of the W&B table that it draws.
        fields: the table's column for each ``${field:...}`` of the chart.
    """

    title: str
    table: str
    fields: Mapping[str, str]


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
    "overview": Preset("Intensive overview", "intensive_overview_table", _same("run", "metric", "step", "value")),
    "heatmap": Preset("Router heatmap", "routing_heatmap_table", _same("run", "step", "layer", "expert", "load")),
    "frontier": Preset("Efficiency frontier", "final_benchmark", {**_ROW, **_AMOUNTS}),
    "benchmark": Preset("Benchmark table", "final_benchmark", {**_ROW, "best": "best in"}),
}


def preset_name(name: str) -> str:
    """The name under which a chart is published: W&B never changes a preset, so each content has its own."""
    content = json.dumps(load(name), sort_keys=True)
    return f"intensive-{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
