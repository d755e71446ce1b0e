"""Every metric as a pure function of tensors; :mod:`intensive_callbacks.metrics` has the classes."""

from intensive_callbacks.functional.coupling import *
from intensive_callbacks.functional.efficiency import *
from intensive_callbacks.functional.routing import *
