"""Accuracy against cost: what is reached with how much, and by whom first."""

from __future__ import annotations

from typing import Any

from intensive_callbacks.dashboards.presets.parts import PALETTE, caption, field, preset

COSTS = {"active params": "active_params", "total params": "total_params", "FLOPs": "num_flops", "bytes": "num_bytes"}
_COST = " : ".join(f"cost == '{title}' ? datum[{field(name)}]" for title, name in COSTS.items()) + " : null"
_ROUND = "test(/^[125]/, format(datum.value, '.0e'))"
_TICK = f"{_ROUND} ? replace(format(datum.value, '.2~s'), 'G', test(/params/, cost) ? 'B' : 'G') : ''"
_MINE = "datum.source == 'this run'"


def frontier() -> dict[str, Any]:
    """The preset over the rows of ``final_benchmark``."""
    return preset(
        title="${string:title:Accuracy for its cost}",
        params=[
            {
                "name": "cost",
                "value": "${string:cost:active params}",
                "bind": {"input": "select", "options": list(COSTS), "name": "cost "},
            }
        ],
        transform=_read(),
        layer=[
            caption(
                "'accuracy against ' + cost + ', logarithmic; the line joins what no cheaper model of its task reaches'"
            ),
            _steps(),
            _points(),
            _labels(),
        ],
        encoding={
            "x": {
                "field": "cost",
                "type": "quantitative",
                "scale": {"type": "log", "nice": False, "padding": 20, "range": [0, {"expr": "width - 110"}]},
                "axis": {
                    "title": None,
                    "labelExpr": _TICK,
                    "grid": False,
                    "tickCount": 6,
                },
            },
            "y": {
                "field": "accuracy",
                "type": "quantitative",
                "scale": {"zero": False, "padding": 14},
                "axis": {"title": "accuracy", "format": ".0%"},
            },
            "color": {
                "field": "group",
                "type": "nominal",
                "scale": {"range": PALETTE},
                "legend": {"title": None, "orient": "bottom", "columns": 2, "labelLimit": 420, "symbolSize": 60},
            },
        },
    )


def _read() -> list[dict[str, Any]]:
    columns = ("model", "task", "protocol", "source", "accuracy")
    order = [{"field": "cost"}, {"field": "accuracy", "order": "descending"}]
    return [
        *({"calculate": f"datum[{field(name)}]", "as": name} for name in columns),
        {"calculate": f"({_COST}) * 1e9", "as": "cost"},
        {"calculate": "datum.task + ' · ' + datum.protocol", "as": "group"},
        {"calculate": _MINE, "as": "mine"},
        {"filter": "isValid(datum.accuracy) && datum.cost > 0"},
        # Every run brings the same published rows: one point each.
        {
            "aggregate": [{"op": "count", "as": "num_runs"}],
            "groupby": ["model", "group", "source", "accuracy", "cost", "mine"],
        },
        {
            "window": [{"op": "max", "field": "accuracy", "as": "reached"}],
            "sort": order,
            "groupby": ["group"],
            "frame": [None, 0],
        },
        {"window": [{"op": "lag", "field": "reached", "as": "before"}], "sort": order, "groupby": ["group"]},
        {"calculate": "!isValid(datum.before) || datum.accuracy > datum.before", "as": "first"},
        {"calculate": "datum.mine ? 1 : 0", "as": "own"},
        {
            "joinaggregate": [
                {"op": "max", "field": "own", "as": "rivals"},
                {"op": "max", "field": "accuracy", "as": "best"},
            ],
            "groupby": ["group"],
        },
    ]


def _faded(shown: float) -> dict[str, Any]:
    return {"condition": {"param": "group", "value": shown}, "value": 0.05}


def _steps() -> dict[str, Any]:
    return {
        "params": [{"name": "group", "select": {"type": "point", "fields": ["group"]}, "bind": "legend"}],
        "transform": [{"filter": "datum.first"}],
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.2},
        "encoding": {"opacity": _faded(0.5)},
    }


def _points() -> dict[str, Any]:
    def unless_mine(mine: Any, other: Any) -> dict[str, Any]:
        return {"condition": {"test": "datum.mine", "value": mine}, "value": other}

    return {
        "mark": {"type": "point", "filled": True},
        "encoding": {
            "size": unless_mine(160, 45),
            "shape": unless_mine("diamond", "circle"),
            "stroke": unless_mine("#111", "transparent"),
            "order": {"field": "own"},
            "opacity": _faded(0.75),
            "tooltip": [
                {"field": "model"},
                {"field": "accuracy", "format": ".1%"},
                {"field": "cost", "format": ".3~s"},
                {"field": "group", "title": "task"},
                {"field": "source"},
            ],
        },
    }


def _labels() -> dict[str, Any]:
    return {
        "transform": [{"filter": "datum.mine || datum.first && (datum.rivals || datum.accuracy == datum.best)"}],
        "mark": {"type": "text", "align": "left", "dx": 6, "dy": -7, "fontSize": 10, "limit": 120},
        "encoding": {
            "text": {"field": "model"},
            "opacity": _faded(1.0),
        },
    }
