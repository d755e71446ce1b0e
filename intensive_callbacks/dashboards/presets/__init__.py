"""The charts, each a function that forms its Vega-Lite preset from the key cards."""

from intensive_callbacks.dashboards.presets.overview import overview

PRESETS = {"overview": overview}

__all__ = ["PRESETS"]
