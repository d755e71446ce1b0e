"""What the pages of documentation take from the code."""

from __future__ import annotations

import math
from importlib import import_module

from intensive_callbacks import cards


def metrics_table() -> str:
    """The table of the logged quantities that a metric forms, for the metrics' page."""
    rows = [
        "| | key | class | definition | unit | range | better | when widened | logged | source |",
        "|---" * 10 + "|",
    ]
    for card in cards.CARDS:
        if card.metric is None:
            continue
        module, _, name = card.metric.partition(".")
        metric = getattr(import_module(f"intensive_callbacks.metrics.{module}"), name)
        cells = (card.symbol, f"`{card.key}`", f"`{name}`", card.meaning, card.unit, _range(metric))
        cells += (card.better, card.size, card.logged, card.source)
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows)


def _range(metric: type) -> str:
    low, high = metric.plot_lower_bound, metric.plot_upper_bound
    if low is None and high is None:
        return "any number"
    return f"{_bound(low, -math.inf)} to {_bound(high, math.inf)}"


def _bound(value: float | None, otherwise: float) -> str:
    value = otherwise if value is None else value
    return {math.inf: "∞", -math.inf: "-∞"}.get(value, f"{value:g}")
