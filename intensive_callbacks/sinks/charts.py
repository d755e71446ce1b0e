"""A chart's data as the trackers' charts draw it, and its picture where the extra ``render`` is installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def key(name: str) -> str:
    """The key under which a chart is logged, such as ``intensive_overview``."""
    from intensive_callbacks.dashboards.presets import PRESETS

    return PRESETS[name].table.removesuffix("_table")


def long_table(name: str, rows: Sequence[Mapping[str, Any]], run: str = "run") -> list[dict[str, Any]]:
    """The rows that the chart draws, one for each point or cell.

    Args:
        name: ``"overview"`` or ``"heatmap"``.
        rows: as :meth:`Sink.log_chart` takes them.
        run: the run's name.
    """
    from intensive_callbacks.dashboards.tables import heatmap_table, overview_table

    if name == "overview":
        return overview_table(rows, run)
    return heatmap_table([(row["step"], row["loads"]) for row in rows], run)


def draw(name: str, rows: Sequence[Mapping[str, Any]], folder: str | Path) -> Path | None:
    """Draw a chart into ``folder`` as a PNG named by :func:`key`; ``None`` if it shows nothing or cannot be drawn."""
    from pathlib import Path

    from intensive_callbacks.dashboards.comparison import charts_of
    from intensive_callbacks.dashboards.presets import PRESETS
    from intensive_callbacks.dashboards.render import write
    from intensive_callbacks.dashboards.runs import RunRecord

    if not rows or not can_draw():
        return None
    if name == "overview":
        record = RunRecord("run", list(map(dict, rows)))
    else:
        record = RunRecord("run", tables={PRESETS[name].table: long_table(name, rows)})
    for chart in charts_of([record]):
        return write(chart, Path(folder) / f"{key(name)}.png", PRESETS[name].title)
    return None


@cache
def can_draw() -> bool:
    """Whether charts can be drawn; a warning says once what is missing."""
    if find_spec("vl_convert"):
        return True
    from intensive_callbacks.boundary import warn  # imports torch

    warn("no charts are drawn, since vl-convert-python is missing: pip install 'intensive-callbacks[render]'")
    return False
