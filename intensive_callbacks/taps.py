"""The former place of :class:`Tap` and :class:`RouterTap`."""

from intensive_callbacks.monitor.taps import RouterTap, Tap

__all__ = ["RouterTap", "Tap"]
