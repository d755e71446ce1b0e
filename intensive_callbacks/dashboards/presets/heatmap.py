"""Which experts each layer uses, and how that changed while training."""

from __future__ import annotations

from typing import Any

from intensive_callbacks.dashboards.presets.parts import field, preset


def heatmap() -> dict[str, Any]:
    """The preset of ``routing_heatmap``: a long table of run, step, layer, expert and load, 1 being an even share."""
    return preset(
        title="${string:title:Load of the experts}",
        params=[
            {
                "name": "moment",
                "value": 1,
                "bind": {"input": "range", "min": 0, "max": 1, "step": 0.01, "name": "first to last step "},
            }
        ],
        transform=_read(),
        layer=[_moment(), _cells()],
    )


def _read() -> list[dict[str, Any]]:
    numbers = ("step", "expert", "load")
    # Slashes and dots in a layer's name are words here, not paths.
    return [
        *({"calculate": f"toNumber(datum[{field(name)}])", "as": name} for name in numbers),
        *({"calculate": f"datum[{field(name)}] || ''", "as": name} for name in ("run", "layer")),
        {"window": [{"op": "row_number", "as": "order"}]},
        {"joinaggregate": [{"op": "min", "field": "order", "as": "depth"}], "groupby": ["run", "layer"]},
        {
            "window": [{"op": "dense_rank", "as": "snapshot"}],
            "sort": [{"field": "step"}],
            "groupby": ["run"],
        },
        {
            "joinaggregate": [{"op": "max", "field": "snapshot", "as": "snapshots"}],
            "groupby": ["run"],
        },
        {"joinaggregate": [{"op": "distinct", "field": "run", "as": "runs"}]},
        {"filter": "datum.snapshot == 1 + round(moment * (datum.snapshots - 1))"},
        {"calculate": "(datum.runs > 1 ? datum.run + ' · ' : '') + datum.layer", "as": "row"},
    ]


def _moment() -> dict[str, Any]:
    return {
        "transform": [
            {"aggregate": [{"op": "max", "field": "step", "as": "step"}], "groupby": ["run"]},
            {"aggregate": [{"op": "max", "field": "step", "as": "step"}]},
            {
                "calculate": "'at step ' + format(datum.step, ',') + '; 1 is an even share, black a dead expert'",
                "as": "words",
            },
        ],
        "mark": {"type": "text", "align": "left", "fontSize": 12},
        "encoding": {
            "x": {"value": 0},
            "y": {"value": -12},
            "text": {"field": "words"},
            "color": {"value": "#666"},
        },
    }


def _cells() -> dict[str, Any]:
    return {
        "mark": {"type": "rect", "stroke": "white", "strokeWidth": 0.3},
        "encoding": {
            "x": {
                "field": "expert",
                "type": "ordinal",
                "axis": {
                    "labelOverlap": "greedy",
                    "labelSeparation": 6,
                    "labelAngle": 0,
                    "title": "expert",
                    "ticks": False,
                },
            },
            "y": {
                "field": "row",
                "type": "nominal",
                "sort": {"op": "min", "field": "depth"},
                "axis": {"title": None, "labelLimit": 260, "labelOverlap": "greedy", "ticks": False},
            },
            "color": {
                "condition": {"test": "datum.load === 0", "value": "#111"},
                "field": "load",
                "type": "quantitative",
                "scale": {"domain": [0, 1, 4], "range": ["#2166ac", "#f7f7f7", "#b2182b"], "clamp": True},
                "legend": {"title": "load", "values": [0, 1, 2, 3, 4], "format": "d", "gradientLength": 160},
            },
            "tooltip": [
                {"field": "run"},
                {"field": "layer"},
                {"field": "expert"},
                {"field": "load", "format": ".3~r", "title": "load, 1 is even"},
                {"field": "step", "format": ","},
            ],
        },
    }
