"""The charts of one or several runs, together on one page."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from intensive_callbacks.dashboards.presets import PRESETS
from intensive_callbacks.dashboards.render import MAX_HEIGHT, Chart, overview_height
from intensive_callbacks.dashboards.tables import overview_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intensive_callbacks.dashboards.runs import RunRecord

_ROWS_OF_A_PAGE = 20_000
_OWN = "this run"


def charts_of(runs: Sequence[RunRecord]) -> list[Chart]:
    """The charts for which the runs have data: overview, heatmap, frontier and benchmark table."""
    names = _names(runs)
    share = max(_ROWS_OF_A_PAGE // len(runs), 1)
    overview = [
        row for run, name in zip(runs, names, strict=True) for row in overview_table(run.rows, name, max_rows=share)
    ]
    heatmap = [
        {**_shown(row, "heatmap"), "run": name}
        for run, name in zip(runs, names, strict=True)
        for row in run.tables.get(PRESETS["heatmap"].table, [])
    ]
    benchmark = _benchmark(runs, names)
    benchmark = [_shown(row, "benchmark", "frontier") for row in benchmark]
    scored = [row for row in benchmark if row.get(PRESETS["frontier"].fields["accuracy"]) is not None]
    tables = {"overview": overview, "heatmap": heatmap, "frontier": scored, "benchmark": benchmark}
    return [Chart(name, rows, height=_height(name, rows)) for name, rows in tables.items() if rows]


def _shown(row: dict[str, Any], *charts: str) -> dict[str, Any]:
    """The columns that these charts show; a table may have others, of any size."""
    return {column: row.get(column) for chart in charts for column in PRESETS[chart].fields.values()}


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """The runs' names, numbered where several runs have the same."""
    total, seen = Counter(run.name for run in runs), Counter[str]()
    names = []
    for run in runs:
        seen[run.name] += 1
        names.append(f"{run.name} #{seen[run.name]}" if total[run.name] > 1 else run.name)
    return names


def _benchmark(runs: Sequence[RunRecord], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of all final tables: each published row once, each run's own row with the run's name."""
    own, published = [], {}
    for run, name in zip(runs, names, strict=True):
        for row in run.tables.get(PRESETS["benchmark"].table, []):
            if row.get("source") == _OWN:
                own.append({**row, "model": f"{row.get('model')} ({name})"} if len(runs) > 1 else row)
            else:
                published[tuple(row.get(column) for column in ("model", "task", "protocol", "source"))] = row
    return [*own, *published.values()]


def _height(name: str, rows: Sequence[dict[str, Any]]) -> int:
    if name == "heatmap":
        return min(140 + 18 * len({(row["run"], row.get("layer")) for row in rows}), 1200)
    if name == "benchmark":
        groups = {(row.get("task"), row.get("protocol")) for row in rows}
        return min(110 + 22 * len(rows) + 32 * len(groups), MAX_HEIGHT)
    return overview_height(rows) if name == "overview" else 440
