"""Prebuilt charts as plain JSON: loaded, rendered without W&B, and published to it."""

from intensive_callbacks.dashboards.files import generated, load
from intensive_callbacks.dashboards.history import decimate, overview_table
from intensive_callbacks.dashboards.render import Chart, page, render

__all__ = ["Chart", "decimate", "generated", "load", "overview_table", "page", "render"]
