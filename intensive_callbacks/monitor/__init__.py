"""Watching a model in training: a loop's calls in, values under the keys of :mod:`intensive_callbacks.cards` out."""

from intensive_callbacks.monitor.monitor import Monitor
from intensive_callbacks.monitor.signals import register_signal

__all__ = ["Monitor", "register_signal"]
