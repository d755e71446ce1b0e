"""Every metric as a ``torchmetrics.Metric``; :mod:`intensive_callbacks.functional` has the pure functions."""

from intensive_callbacks.metrics.allocation import *
from intensive_callbacks.metrics.compression import *
from intensive_callbacks.metrics.dynamics import *
from intensive_callbacks.metrics.efficiency import *
from intensive_callbacks.metrics.gradient_noise import *
from intensive_callbacks.metrics.information import *
from intensive_callbacks.metrics.information_bottleneck import *
from intensive_callbacks.metrics.integrated_information import *
from intensive_callbacks.metrics.representation import *
from intensive_callbacks.metrics.routing import *
from intensive_callbacks.metrics.routing_coverage import *
from intensive_callbacks.metrics.routing_selections import *
from intensive_callbacks.metrics.scaling import *
from intensive_callbacks.metrics.sparsity import *
from intensive_callbacks.metrics.task_information import *
from intensive_callbacks.metrics.thermodynamics import *
