"""The final table as a chart: models below each other within their task and protocol, the best in bold."""

from __future__ import annotations

from typing import Any

from intensive_callbacks.cards import CARDS
from intensive_callbacks.dashboards.presets.parts import field, preset

_AMOUNTS = {
    "total params (B)": "params",
    "active params (B)": "params",
    "weights (GB)": "bytes",
    "FLOPs (GFLOP)": "FLOPs",
}
_ACCURACY = "accuracy (fraction)"
_NAMES = 190  # pixels at the left for the models' names


def number_columns() -> list[dict[str, str]]:
    """The columns of numbers that a benchmark table can have: its name there, its title, how and when it is shown."""
    columns = [
        {"column": name, "title": name.rpartition(" (")[0], "style": style, "kind": "comparable"}
        for name, style in _AMOUNTS.items()
    ]
    columns.append({"column": _ACCURACY, "title": "accuracy", "style": "share", "kind": "comparable"})
    for card in CARDS:
        if card.metric is None:
            continue
        unit = f" ({card.unit})" if card.unit != "1" else ""
        columns += [
            {"column": f"{card.symbol}{unit}", "title": card.symbol, "style": "number", "kind": "comparable"},
            {"column": f"{card.symbol} measured{unit}", "title": card.symbol, "style": "number", "kind": "measured"},
        ]
    return columns


def benchmark() -> dict[str, Any]:
    """The preset over the rows of ``final_benchmark``."""
    return preset(
        title="${string:title:Benchmark}",
        params=[
            {
                "name": "shown",
                "value": "${string:shown:comparable}",
                "bind": {"input": "select", "options": ["comparable", "measured"], "name": "columns "},
            }
        ],
        transform=_read(),
        layer=[_headings(), _models(), _cells()],
        encoding={
            "y": {
                "field": "place",
                "type": "quantitative",
                "scale": {"reverse": True, "nice": False, "zero": False, "padding": 12},
                "axis": None,
            }
        },
    )


def _read() -> list[dict[str, Any]]:
    """One row per model and column, each group with a free place above it for its heading, this run's group first."""
    columns = number_columns()
    names = ("model", "task", "protocol", "source", "best")
    by_group = [{"field": "own", "order": "descending"}, {"field": "group"}]
    return [
        *({"calculate": f"datum[{field(name)}] || ''", "as": name} for name in names),
        {"calculate": "datum.task + ' \u00b7 ' + datum.protocol", "as": "group"},
        {"window": [{"op": "row_number", "as": "order"}]},
        # Every run brings the same published rows: the first of each stands for all.
        {"window": [{"op": "row_number", "as": "again"}], "groupby": ["model", "group", "source", _ACCURACY]},
        {"filter": "datum.again == 1"},
        {"calculate": "datum.source == 'this run' ? 1 : 0", "as": "mine"},
        {"joinaggregate": [{"op": "max", "field": "mine", "as": "own"}], "groupby": ["group"]},
        {"fold": [column["column"] for column in columns], "as": ["column", "value"]},
        {
            "lookup": "column",
            "from": {"data": {"values": columns}, "key": "column", "fields": ["title", "style", "kind"]},
        },
        {"filter": "datum.kind == shown"},
        {"joinaggregate": [{"op": "valid", "field": "value", "as": "models"}], "groupby": ["column"]},
        {"joinaggregate": [{"op": "valid", "field": "value", "as": "values"}], "groupby": ["order"]},
        {"filter": "datum.models > 0 && datum.values > 0"},
        {"window": [{"op": "dense_rank", "as": "row"}], "sort": [*by_group, {"field": "order"}]},
        {"window": [{"op": "dense_rank", "as": "nth_group"}], "sort": by_group},
        {"calculate": "datum.row + 1.4 * datum.nth_group", "as": "place"},
    ]


def _headings() -> dict[str, Any]:
    return {
        "transform": [
            {"aggregate": [{"op": "min", "field": "place", "as": "top"}], "groupby": ["group"]},
            {"calculate": "datum.top - 1.1", "as": "heading"},
        ],
        "mark": {"type": "text", "align": "left", "fontSize": 11, "color": "#666", "baseline": "middle"},
        "encoding": {
            "x": {"value": 0},
            "y": {"field": "heading", "type": "quantitative"},
            "text": {"field": "group"},
        },
    }


def _models() -> dict[str, Any]:
    return {
        "transform": [
            {"aggregate": [{"op": "min", "field": "place", "as": "place"}], "groupby": ["model", "group", "source"]}
        ],
        "mark": {"type": "text", "align": "left", "fontSize": 11, "baseline": "middle", "limit": _NAMES - 10},
        "encoding": {
            "x": {"value": 0},
            "text": {"field": "model"},
            "tooltip": [{"field": "model"}, {"field": "group", "title": "task"}, {"field": "source"}],
        },
    }


def _cells() -> dict[str, Any]:
    words = (
        "!isValid(datum.value) ? '\u2014'"
        " : datum.style == 'share' ? format(datum.value, '.1%')"
        " : datum.style == 'params' ? replace(format(1e9 * datum.value, '.3~s'), 'G', 'B')"
        " : datum.style == 'bytes' ? format(1e9 * datum.value, '.3~s') + 'B'"
        " : datum.style == 'FLOPs' ? format(1e9 * datum.value, '.3~s')"
        " : format(datum.value, abs(datum.value) >= 1e4 ? '.4~s' : '.4~r')"
    )
    best = "shown == 'comparable' && indexof(', ' + datum.best + ', ', ', ' + datum.title + ', ') >= 0"
    return {
        "transform": [{"calculate": words, "as": "words"}, {"calculate": best, "as": "wins"}],
        "mark": {"type": "text", "align": "right", "fontSize": 11, "baseline": "middle", "dx": 30},
        "encoding": {
            "x": {
                "field": "title",
                "type": "nominal",
                "sort": list(dict.fromkeys(column["title"] for column in number_columns())),
                "scale": {"range": [_NAMES, {"expr": "width"}]},
                "axis": {
                    "orient": "top",
                    "title": None,
                    "domain": False,
                    "ticks": False,
                    "labelPadding": 18,
                    "labelAngle": 0,
                    "labelExpr": "split(datum.label, ' ')",
                },
            },
            "text": {"field": "words"},
            "color": {"condition": {"test": "datum.wins", "value": "#0a6b2d"}, "value": "#222"},
            "tooltip": [
                {"field": "model"},
                {"field": "column"},
                {"field": "value"},
                {"field": "source"},
            ],
        },
    }
