"""What fills the templates' placeholders: the tables that follow from the cards, as they are registered now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intensive_callbacks import cards

if TYPE_CHECKING:
    from intensive_callbacks.cards import Card

_AMOUNTS = {
    "total params (B)": "params",
    "active params (B)": "params",
    "weights (GB)": "bytes",
    "FLOPs (GFLOP)": "FLOPs",
    "2N FLOPs (GFLOP)": "FLOPs",
}
# P2F of estimated FLOPs, where the columns of a table have it.
_ESTIMATED = ("P2F (2N) (points per TFLOP)", "P2F (2N)", "number", "comparable")


def tables() -> dict[str, list[dict[str, Any]]]:
    """The rows for each placeholder, by its name."""
    return {"@cards": card_rows(), "@columns": column_rows()}


def card_rows() -> list[dict[str, Any]]:
    """What a chart says about each key; the keys of single layers share a row, ``routing_by_layer/<name>``."""
    rows = []
    for card in cards.CARDS:
        words = {"symbol": card.symbol, "unit": card.unit, "meaning": card.meaning, "reading": _reading(card)}
        rows.append({"key": card.key, **words})
        if card.fed_by == "routing":
            rows.append({"key": f"routing_by_layer/{card.key.rpartition('/')[2]}", **words})
    return rows


def _reading(card: Card) -> str:
    """How a card's values are to be read, in a few words."""
    words = {"higher": ["higher is better"], "lower": ["lower is better"], "neither": []}[card.better]
    if card.size == "ratio":
        words.append("falls as the model grows")
    if card.band:
        words.append(f"its source recommends {card.band[0]:g} to {card.band[1]:g}")
    return "; ".join(words)


def column_rows() -> list[dict[str, Any]]:
    """The columns of numbers that a benchmark table can have: name in the table, title, place, how and when shown."""
    columns = [(name, name.rpartition(" (")[0], style, "comparable") for name, style in _AMOUNTS.items()]
    columns += [("accuracy (fraction)", "accuracy", "share", "comparable"), _ESTIMATED]
    for card in cards.CARDS:
        if card.metric or cards.registered_class(card.key):
            unit = f" ({card.unit})" if card.unit != "1" else ""
            columns.append((f"{card.symbol}{unit}", card.symbol, "number", "comparable"))
            columns.append((f"{card.symbol} measured{unit}", card.symbol, "number", "measured"))
    names = ("column", "title", "style", "kind")
    return [{**dict(zip(names, column, strict=True)), "rank": rank} for rank, column in enumerate(columns)]
