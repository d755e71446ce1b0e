"""Every metric as a ``torchmetrics.Metric``; :mod:`intensive_callbacks.functional` has the pure functions."""

from intensive_callbacks.metrics.coupling import *
from intensive_callbacks.metrics.efficiency import *
from intensive_callbacks.metrics.routing import *
