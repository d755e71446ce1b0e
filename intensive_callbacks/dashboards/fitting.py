"""Charts whose data fits a page, however much somebody else's run holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from intensive_callbacks.dashboards.tables import decimate, evenly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

MAX_DATA = 500_000  # bytes; with the code that draws it a page stays below 1.5 MB


def fitted(tables: Sequence[tuple[str, Rows]], max_bytes: int = MAX_DATA) -> tuple[list[Rows], list[str]]:
    """As many of the rows as fit, and a sentence about each chart that lost some.

    Series lose points as :func:`~intensive_callbacks.dashboards.tables.decimate` takes them, heatmaps whole steps,
    tables their last rows.

    Args:
        tables: the charts' names, each with its rows.
        max_bytes: how large all of them together may be, as JSON.
    """
    sizes = [_size(rows) for _, rows in tables]
    share = max_bytes / max(sum(sizes), 1)
    if share >= 1:
        return [rows for _, rows in tables], []
    thinned = [_thinned(name, rows, share, size) for (name, rows), size in zip(tables, sizes, strict=True)]
    return thinned, [
        f"{name}: {len(less):,} of {len(rows):,} rows are drawn, so that the page stays small"
        for (name, rows), less in zip(tables, thinned, strict=True)
    ]


def _size(rows: Rows) -> int:
    return sum(len(json.dumps(dict(row))) for row in rows)


def _thinned(name: str, rows: Rows, share: float, size: int) -> Rows:
    if name == "overview":
        rows = _fewer_points(rows, int(share * len(rows)))
    elif name == "heatmap":
        rows = _fewer_steps(rows, share)
    while rows and _size(rows) > share * size:
        rows = rows[: len(rows) * 7 // 8]
    return rows


def _fewer_points(rows: Rows, limit: int) -> Rows:
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        series.setdefault((row["run"], row["metric"]), []).append((row["step"], row["value"]))
    return [
        {"run": run, "metric": metric, "step": step, "value": value}
        for (run, metric), points in series.items()
        for step, value in decimate(points, max(limit // len(series), 1))
    ]


def _fewer_steps(rows: Rows, share: float) -> Rows:
    steps = list(dict.fromkeys(row.get("step") for row in rows))
    kept = set(evenly(steps, max(int(share * len(steps)), 1)))
    return [row for row in rows if row.get("step") in kept]
