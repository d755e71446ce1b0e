"""The former place of :mod:`intensive_callbacks.monitor.gradients`."""

from intensive_callbacks.monitor.gradients import GradientNorms, GradientPairs, squared_gradient_norm

__all__ = ["GradientNorms", "GradientPairs", "squared_gradient_norm"]
