"""The long tables that overview and heatmap draw, decimated to what a chart can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ROWS = 2000
MAX_HEATMAP_ROWS = 10_000  # W&B draws no more rows than this
_NOT_DRAWN = ("baseline/", "cost/")

Point = tuple[float, float]
Loads = Mapping[str, Sequence[float]]
Snapshot = Mapping[str, Any] | tuple[int, Loads]


def overview_table(
    rows: Iterable[Mapping[str, Any]], run: str = "run", max_rows: int = MAX_ROWS
) -> list[dict[str, Any]]:
    """The overview's long table: one row per run, metric and step, in all at most ``max_rows``.

    Values that are not finite are dropped, and so are the costs of a model, ``baseline/`` and ``cost/``.

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
    """At most ``limit`` of the points, spikes included: first, last, and the lowest and highest of each interval.

    Args:
        points: a series in the order of its steps, as (step, value).
        limit: how many points may remain, at least 1.

    Example:
        >>> decimate([(0, 0.0), (1, 0.0), (2, 9.0), (3, 0.0), (4, 0.0), (5, 1.0)], 4)
        [(0, 0.0), (1, 0.0), (2, 9.0), (5, 1.0)]
    """
    if len(points) <= limit:
        return points
    intervals = (limit - 2) // 2
    if intervals < 1:
        return points[-1:] if limit == 1 else [points[0], points[-1]]
    kept = {0, len(points) - 1}
    inner = len(points) - 2
    for number in range(intervals):
        interval = range(1 + inner * number // intervals, 1 + inner * (number + 1) // intervals)
        kept.add(min(interval, key=lambda index: points[index][1]))
        kept.add(max(interval, key=lambda index: points[index][1]))
    return [points[index] for index in sorted(kept)]


def heatmap_table(
    snapshots: Sequence[Snapshot], run: str = "run", max_rows: int = MAX_HEATMAP_ROWS
) -> list[dict[str, Any]]:
    """The router heatmap's long table: one row per step, layer and expert, in all at most ``max_rows``.

    If there are too many rows, snapshots are dropped first, evenly and never the first or last; if a single snapshot
    is too large, layers are dropped evenly.

    Args:
        snapshots: for each snapshot its ``step`` and its ``loads``, the load of each expert by layer's name, as counts
            or shares; a tuple of the two is accepted as well.
        run: the run's name.
        max_rows: how many rows the table may have.

    Returns:
        Rows whose ``load`` is relative to an even share: 1 if all experts are used equally, 0 for a dead expert. Layers
        without tokens are left out.

    Example:
        >>> heatmap_table([{"step": 100, "loads": {"layer 0": [3, 1]}}], run="a")[0]
        {'run': 'a', 'step': 100, 'layer': 'layer 0', 'expert': 0, 'load': 1.5}
    """
    pairs = [(each["step"], each["loads"]) if isinstance(each, Mapping) else each for each in snapshots]
    largest = max((sum(map(len, layers.values())) for _, layers in pairs), default=1)
    rows = []
    for step, layers in evenly(pairs, max(max_rows // largest, 1)):
        widest = max(map(len, layers.values()), default=1)
        for name, loads in evenly(list(layers.items()), max(max_rows // widest, 1)):
            total = sum(loads)
            rows += [
                {"run": run, "step": step, "layer": name, "expert": expert, "load": float(load * len(loads) / total)}
                for expert, load in enumerate(loads)
                if total > 0
            ]
    return rows


def evenly(items: Sequence[Any], limit: int) -> list[Any]:
    """At most ``limit`` of the items, evenly spaced; always the last, and the first if the limit is at least two."""
    if len(items) <= limit:
        return list(items)
    if limit == 1:
        return [items[-1]]
    return [items[round(place * (len(items) - 1) / (limit - 1))] for place in range(limit)]


def overview_is_due(num_logged: int) -> bool:
    """Whether the overview is logged again after this many logged rows.

    It is at every doubling from 16 on: each time the whole chart is written, and so both the files and the work per
    step stay small however long the training is (17 times in a million rows).

    Example:
        >>> [num_logged for num_logged in range(100) if overview_is_due(num_logged)]
        [16, 32, 64]
    """
    return 16 <= num_logged <= 2**22 and num_logged & (num_logged - 1) == 0


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
