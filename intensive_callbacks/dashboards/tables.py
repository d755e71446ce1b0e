"""The long tables that overview and heatmap draw, small enough to be drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_ROWS = 2000
MAX_HEATMAP_ROWS = 10_000  # W&B draws no more rows than this
_NOT_DRAWN = ("baseline/", "cost/")

Point = tuple[float, float]


def overview_table(
    rows: Iterable[Mapping[str, Any]], run: str = "run", max_rows: int = MAX_ROWS
) -> list[dict[str, Any]]:
    """The overview's long table: one row per run, metric and step, in all at most ``max_rows``.

    Values that are not finite are dropped, and so are what a model costs, ``baseline/`` and ``cost/``.

    Args:
        rows: a run's history; each row has a ``step`` and the values logged there, by key.
        run: the run's name.
        max_rows: how many rows the table may have.

    Example:
        >>> overview_table([{"step": 0, "CES": 0.5}, {"step": 1, "CES": float("nan")}], run="a")
        [{'run': 'a', 'metric': 'CES', 'step': 0, 'value': 0.5}]
    """
    series: dict[str, list[Point]] = {}
    for row in rows:
        for key, value in row.items():
            if key != "step" and not key.startswith(_NOT_DRAWN) and _is_finite(value):
                series.setdefault(key, []).append((row["step"], float(value)))
    return [
        {"run": run, "metric": key, "step": step, "value": value}
        for key, points in list(series.items())[:max_rows]
        for step, value in decimate(points, max(max_rows // len(series), 1))
    ]


def decimate(points: Sequence[Point], limit: int) -> Sequence[Point]:
    """At most ``limit`` of the points: the first, the last, and each stretch's lowest and highest, so that spikes stay.

    Args:
        points: a series in the order of its steps, as (step, value).
        limit: how many points may remain, at least 1.

    Example:
        >>> decimate([(0, 0.0), (1, 0.0), (2, 9.0), (3, 0.0), (4, 0.0), (5, 1.0)], 4)
        [(0, 0.0), (1, 0.0), (2, 9.0), (5, 1.0)]
    """
    if len(points) <= limit:
        return points
    stretches = (limit - 2) // 2
    if stretches < 1:
        return points[-1:] if limit == 1 else [points[0], points[-1]]
    kept = {0, len(points) - 1}
    inner = len(points) - 2
    for number in range(stretches):
        stretch = range(1 + inner * number // stretches, 1 + inner * (number + 1) // stretches)
        kept.add(min(stretch, key=lambda index: points[index][1]))
        kept.add(max(stretch, key=lambda index: points[index][1]))
    return [points[index] for index in sorted(kept)]


def heatmap_table(
    snapshots: Sequence[tuple[int, Mapping[str, Sequence[float]]]], run: str = "run", max_rows: int = MAX_HEATMAP_ROWS
) -> list[dict[str, Any]]:
    """The router heatmap's long table: one row per step, layer and expert, in all at most ``max_rows``.

    Moments are left out first, evenly and never the first or last; a model whose single moment is too large for the
    table loses layers, evenly.

    Args:
        snapshots: moments of training as (step, load of each expert by layer's name); counts or shares.
        run: the run's name.
        max_rows: how many rows the table may have.

    Returns:
        Rows whose ``load`` is relative to an even share: 1 where every expert is used alike, 0 for a dead one. Layers
        that saw no token are left out.

    Example:
        >>> heatmap_table([(100, {"layer 0": [3, 1]})], run="a")[0]
        {'run': 'a', 'step': 100, 'layer': 'layer 0', 'expert': 0, 'load': 1.5}
    """
    largest = max((sum(map(len, layers.values())) for _, layers in snapshots), default=1)
    rows = []
    for step, layers in _evenly(snapshots, max(max_rows // largest, 1)):
        widest = max(map(len, layers.values()), default=1)
        for name, loads in _evenly(list(layers.items()), max(max_rows // widest, 1)):
            total = sum(loads)
            rows += [
                {"run": run, "step": step, "layer": name, "expert": expert, "load": float(load * len(loads) / total)}
                for expert, load in enumerate(loads)
                if total > 0
            ]
    return rows


def _evenly(items: Sequence[Any], limit: int) -> list[Any]:
    """At most ``limit`` of the items at even distances; the last always, the first if there is room for two."""
    if len(items) <= limit:
        return list(items)
    if limit == 1:
        return [items[-1]]
    return [items[round(place * (len(items) - 1) / (limit - 1))] for place in range(limit)]


def overview_is_due(num_logged: int) -> bool:
    """Whether the overview is logged again, now that this many rows of values have been logged.

    Every doubling from 16 on: each re-logging writes the whole chart, so that this keeps both the files and the work
    per step small however long the training is (17 times in a million rows).

    Example:
        >>> [num_logged for num_logged in range(100) if overview_is_due(num_logged)]
        [16, 32, 64]
    """
    return 16 <= num_logged <= 2**22 and num_logged & (num_logged - 1) == 0


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
