"""What the presets share: the frame of a Vega-Lite chart in W&B, the key cards, the colours."""

from __future__ import annotations

from typing import Any

from intensive_callbacks.cards import CARDS, Card

# Ten that are told apart at a glance, then deeper and lighter ones for charts with more series.
PALETTE = [
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#6b7280", "#a8a410", "#17becf"),
    *("#0b3c6f", "#a84300", "#0f5f2f", "#7f1020", "#4b2a86", "#c49c52", "#b0307a", "#2f3e46", "#5f6f00", "#0a6f7a"),
    *("#5aa9e6", "#ffb14e", "#7bc96f", "#f2777a", "#b79ce0", "#d08f7a", "#f4a6d7", "#9aa5b1", "#cfcb4f", "#63d3e0"),
]
_WORST = "/\\/worst$/"


def field(name: str) -> str:
    """The column that the chart's user maps to ``name``, for use within an expression."""
    return "'${field:" + name + "}'"


def preset(*, title: str, **parts: Any) -> dict[str, Any]:
    """A chart over the table that W&B calls ``wandb``, as large as its panel."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"name": "wandb"},
        "width": "container",
        "height": "container",
        "autosize": {"type": "fit", "contains": "padding"},
        "title": {"text": title, "anchor": "start", "frame": "group", "offset": 8},
        **parts,
        "config": {
            "view": {"stroke": None},
            "axis": {"titleFontWeight": "normal", "gridColor": "#eee"},
            "legend": {"titleFontWeight": "normal"},
        },
    }


def caption(expression: str) -> dict[str, Any]:
    """A layer with one line of words above the chart, which may depend on what its reader chose."""
    return {
        "data": {"values": [{}]},
        "mark": {"type": "text", "align": "left", "fontSize": 12, "text": {"expr": expression}},
        "encoding": {"x": {"value": 0}, "y": {"value": -12}, "color": {"value": "#666"}},
    }


def card_lookup(column: str) -> list[dict[str, Any]]:
    """Symbol, unit and meaning of the keys in a column; a key without a card stands for itself."""
    cards = [
        {"key": card.key, "symbol": card.symbol, "unit": card.unit, "meaning": card.meaning, "reading": reading(card)}
        for card in CARDS
    ]
    return [
        # Of a routing value there is the mean over the layers and, under a key of its own, the worst layer's.
        {"calculate": f"replace(datum.{column}, {_WORST}, '')", "as": "key"},
        {
            "lookup": "key",
            "from": {"data": {"values": cards}, "key": "key", "fields": ["symbol", "unit", "meaning", "reading"]},
        },
        {
            "calculate": f"datum.symbol ? datum.symbol + (test({_WORST}, datum.{column}) ? ', worst layer' : '')"
            f" : datum.{column}",
            "as": "symbol",
        },
        *({"calculate": f"datum.{words} || ''", "as": words} for words in ("unit", "meaning", "reading")),
    ]


def reading(card: Card) -> str:
    """How a card's values are to be read, in a few words."""
    words = {"higher": ["higher is better"], "lower": ["lower is better"], "neither": []}[card.better]
    if card.size == "ratio":
        words.append("falls as the model grows")
    if card.band:
        words.append(f"its source recommends {card.band[0]:g} to {card.band[1]:g}")
    return "; ".join(words)
