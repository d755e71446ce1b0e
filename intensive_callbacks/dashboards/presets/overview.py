"""Many metrics in one line chart: one colour each, a dash per run, labels that never overlap."""

from __future__ import annotations

from typing import Any

from intensive_callbacks.dashboards.presets.parts import PALETTE, caption, card_lookup, field, preset

VIEWS = ("relative", "normalised", "absolute")
_LABELS = 170  # pixels at the right for the column of labels
_LABEL_HEIGHT = 14

# Each view's y; one linear axis serves them all. `fold` is a logarithm on both sides of zero with a straight middle, so
# that zero and negative values stay where they are and 1e4 does not flatten 0.9.
_FOLD = "({0} < 0 ? -1 : 1) * (abs({0}) < {1} ? abs({0}) / {1} : 1 + log(abs({0}) / {1}) / LN10)"
_SHOWN = (
    f"view == 'absolute' ? {_FOLD.format('datum.value', 0.01)}"
    f" : view == 'relative' ? {_FOLD.format('datum.change', 0.1)}"
    " : datum.high > datum.low ? (datum.value - datum.low) / (datum.high - datum.low) : 0.5"
)
_UNFOLDED = "pow(10, max(abs(datum.value) - 1, 0)) * min(abs(datum.value), 1)"
_AXIS = (
    "view != 'normalised' && abs(datum.value) > 1 && datum.value % 1 != 0 && span(domain('y')) > 2 ? ''"
    f" : view == 'absolute' ? (datum.value < 0 ? '\u2212' : '') + format(0.01 * {_UNFOLDED}, ',.3~r')"
    " : view == 'relative' ? (datum.value > 0 ? '+' : datum.value < 0 ? '\u2212' : '')"
    f" + format(10 * {_UNFOLDED}, ',.3~r') + ' %'"
    " : format(datum.value, '~g')"
)
_SUBTITLE = (
    "view == 'absolute' ? 'value; logarithmic beyond ±0.01'"
    " : view == 'relative' ? 'change since the first value; logarithmic beyond ±10 %'"
    " : 'each metric from its lowest value (0) to its highest (1)'"
)


def overview() -> dict[str, Any]:
    """The preset of ``intensive_overview``: a long table of step, metric, value and run."""
    return preset(
        title="${string:title:Intensive metrics}",
        params=[
            {
                "name": "view",
                "value": "${string:view:relative}",
                "bind": {"input": "select", "options": list(VIEWS), "name": "view "},
            }
        ],
        transform=[*_read(), *_scale()],
        layer=[caption(_SUBTITLE), _lines(), _points(), _connectors(), _labels()],
        encoding={
            "color": {"field": "metric", "type": "nominal", "scale": {"range": PALETTE}, "legend": None},
            "y": {
                "field": "shown",
                "type": "quantitative",
                "scale": {"zero": False, "nice": False, "padding": 8},
                "axis": {
                    "title": None,
                    "labelExpr": _AXIS,
                    "tickCount": 8,
                },
            },
        },
    )


def _read() -> list[dict[str, Any]]:
    return [
        {"calculate": f"datum[{field('metric')}]", "as": "metric"},
        {"calculate": f"toNumber(datum[{field('value')}])", "as": "value"},
        {"calculate": f"toNumber(datum[{field('step')}])", "as": "step"},
        {"calculate": f"datum[{field('run')}] || 'run'", "as": "run"},
        {"filter": "isValid(datum.value) && isFinite(datum.value) && isFinite(datum.step)"},
        *card_lookup("metric"),
    ]


def _scale() -> list[dict[str, Any]]:
    first = {
        "window": [{"op": "first_value", "field": "value", "as": "first"}],
        "sort": [{"field": "step"}],
        "groupby": ["run", "metric"],
        "frame": [None, None],
    }
    extent = [{"op": "min", "field": "value", "as": "low"}, {"op": "max", "field": "value", "as": "high"}]
    size = [{"op": "max", "field": "size", "as": "largest"}]
    # A series that begins at zero, or at next to nothing, has no telling relative change: it is shown against its own
    # largest value instead.
    reference = "abs(datum.first) * 1000 > datum.largest ? abs(datum.first) : datum.largest || 1"
    return [
        first,
        {"calculate": "abs(datum.value)", "as": "size"},
        {"joinaggregate": size, "groupby": ["run", "metric"]},
        {"joinaggregate": extent, "groupby": ["metric"]},
        {"calculate": f"(datum.value - datum.first) / ({reference})", "as": "change"},
        {"calculate": _SHOWN, "as": "shown"},
    ]


def _x() -> dict[str, Any]:
    return {
        "field": "step",
        "type": "quantitative",
        "scale": {"range": [0, {"expr": f"width - {_LABELS}"}], "zero": False, "nice": False},
        "axis": {"title": "step", "grid": False, "format": ",d", "tickCount": 6, "tickMinStep": 1},
    }


def _faded(shown: float) -> dict[str, Any]:
    return {
        "condition": {"test": {"and": [{"param": "isolated"}, {"param": "run"}]}, "value": shown},
        "value": 0.06,
    }


def _lines() -> dict[str, Any]:
    return {
        "params": [{"name": "run", "select": {"type": "point", "fields": ["run"]}, "bind": "legend"}],
        "mark": {"type": "line", "strokeWidth": 1.8, "interpolate": "linear", "clip": True},
        "encoding": {
            "x": _x(),
            "detail": {"field": "run"},
            "strokeDash": {
                "field": "run",
                "type": "nominal",
                "legend": {
                    "title": "run",
                    "titleOrient": "left",
                    "orient": "bottom",
                    "symbolSize": 400,
                    "labelLimit": 250,
                },
            },
            "opacity": _faded(0.9),
        },
    }


def _points() -> dict[str, Any]:
    return {
        "mark": {"type": "point", "size": 60, "filled": True},
        "encoding": {
            "x": _x(),
            "opacity": {"value": 0},
            "tooltip": [
                {"field": "symbol", "title": "metric"},
                {"field": "value", "format": ".5~g"},
                {"field": "unit"},
                {"field": "change", "format": "+.1%", "title": "since the first"},
                {"field": "step", "format": ","},
                {"field": "run"},
                {"field": "meaning"},
                {"field": "reading", "title": "read it as"},
            ],
        },
    }


def _ends() -> list[dict[str, Any]]:
    """The last point of each series, and beside it a place for its metric's label.

    Labels are pushed apart in two sweeps, each a running extremum: upwards from the lowest, then down again from the
    top of the chart.
    """
    gap = "(datum.top - datum.bottom || 1) / max(datum.metrics - 1, height / " + str(_LABEL_HEIGHT) + ")"
    return [
        {
            "joinaggregate": [
                {"op": "min", "field": "shown", "as": "bottom"},
                {"op": "max", "field": "shown", "as": "top"},
                {"op": "distinct", "field": "metric", "as": "metrics"},
                {"op": "distinct", "field": "run", "as": "runs"},
            ]
        },
        {
            "window": [{"op": "row_number", "as": "back"}],
            "sort": [{"field": "step", "order": "descending"}],
            "groupby": ["run", "metric"],
        },
        {"filter": "datum.back == 1"},
        {"joinaggregate": [{"op": "mean", "field": "shown", "as": "end"}], "groupby": ["metric"]},
        {
            "window": [{"op": "dense_rank", "as": "place"}],
            "sort": [{"field": "end"}, {"field": "metric"}],
        },
        {"calculate": gap, "as": "gap"},
        {"calculate": "datum.end - datum.place * datum.gap", "as": "above"},
        {
            "window": [{"op": "max", "field": "above", "as": "above"}],
            "sort": [{"field": "place"}],
            "frame": [None, 0],
        },
        {"calculate": "min(datum.above + datum.place * datum.gap, datum.top) - datum.place * datum.gap", "as": "below"},
        {
            "window": [{"op": "min", "field": "below", "as": "below"}],
            "sort": [{"field": "place"}],
            "frame": [0, None],
        },
        {"calculate": "datum.below + datum.place * datum.gap", "as": "label_y"},
        {
            "calculate": "datum.symbol + (datum.runs > 1 ? '' : '  ' + format(datum.value, abs(datum.value) < 1000 ?"
            " '.3~r' : '.3~s'))",
            "as": "label",
        },
    ]


def _connectors() -> dict[str, Any]:
    return {
        "transform": _ends(),
        "mark": {"type": "rule", "strokeWidth": 0.8},
        "encoding": {
            "x": _x(),
            "x2": {"value": {"expr": f"width - {_LABELS - 26}"}},
            "y2": {"field": "label_y"},
            "opacity": _faded(0.55),
        },
    }


def _labels() -> dict[str, Any]:
    return {
        "params": [{"name": "isolated", "select": {"type": "point", "fields": ["metric"], "toggle": "true"}}],
        "transform": [
            *_ends(),
            {"window": [{"op": "row_number", "as": "nth"}], "sort": [{"field": "run"}], "groupby": ["metric"]},
            {"filter": "datum.nth == 1"},
        ],
        "mark": {
            "type": "text",
            "align": "left",
            "baseline": "middle",
            "fontSize": 11,
            "limit": _LABELS - 30,
            "cursor": "pointer",
        },
        "encoding": {
            "x": {"value": {"expr": f"width - {_LABELS - 30}"}},
            "y": {"field": "label_y", "type": "quantitative"},
            "text": {"field": "label"},
            "opacity": _faded(1.0),
            "tooltip": [
                {"field": "metric", "title": "key"},
                {"field": "meaning"},
                {"field": "unit"},
                {"field": "reading", "title": "read it as"},
            ],
        },
    }
