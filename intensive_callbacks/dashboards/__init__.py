"""Prebuilt charts: Vega-Lite files loaded, rendered without W&B, and published to it."""

from intensive_callbacks.dashboards.comparison import charts_of
from intensive_callbacks.dashboards.publish import publish
from intensive_callbacks.dashboards.render import Chart, page, render
from intensive_callbacks.dashboards.runs import RunRecord, read_run
from intensive_callbacks.dashboards.tables import heatmap_table, overview_is_due, overview_table
from intensive_callbacks.dashboards.templates import load
from intensive_callbacks.dashboards.workspace import generated

__all__ = [
    "Chart",
    "RunRecord",
    "charts_of",
    "generated",
    "heatmap_table",
    "load",
    "overview_is_due",
    "overview_table",
    "page",
    "publish",
    "read_run",
    "render",
]
