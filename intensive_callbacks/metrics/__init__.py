"""Every metric as a ``torchmetrics.Metric``; :mod:`intensive_callbacks.functional` has the pure functions."""

from intensive_callbacks.metrics.allocation import *
from intensive_callbacks.metrics.compression import *
from intensive_callbacks.metrics.coupling import *
from intensive_callbacks.metrics.density import *
from intensive_callbacks.metrics.dynamics import *
from intensive_callbacks.metrics.efficiency import *
from intensive_callbacks.metrics.information import *
from intensive_callbacks.metrics.learning import *
from intensive_callbacks.metrics.relevance import *
from intensive_callbacks.metrics.representation import *
from intensive_callbacks.metrics.routing import *
from intensive_callbacks.metrics.scaling import *
from intensive_callbacks.metrics.thermodynamics import *
from intensive_callbacks.metrics.training import *
