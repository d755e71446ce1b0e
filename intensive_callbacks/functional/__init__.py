"""Every metric as a pure function of tensors; :mod:`intensive_callbacks.metrics` has the classes."""

from intensive_callbacks.functional.allocation import *
from intensive_callbacks.functional.checkpointing import *
from intensive_callbacks.functional.compression import *
from intensive_callbacks.functional.dynamics import *
from intensive_callbacks.functional.efficiency import *
from intensive_callbacks.functional.gaussian import *
from intensive_callbacks.functional.gradient_noise import *
from intensive_callbacks.functional.information import *
from intensive_callbacks.functional.information_bottleneck import *
from intensive_callbacks.functional.integrated_information import *
from intensive_callbacks.functional.intensivity import *
from intensive_callbacks.functional.learning_curve import *
from intensive_callbacks.functional.neighbors import *
from intensive_callbacks.functional.per_unit import *
from intensive_callbacks.functional.predictions import *
from intensive_callbacks.functional.representation import *
from intensive_callbacks.functional.routing import *
from intensive_callbacks.functional.routing_coverage import *
from intensive_callbacks.functional.routing_selections import *
from intensive_callbacks.functional.scaling import *
from intensive_callbacks.functional.sparsity import *
from intensive_callbacks.functional.task_information import *
from intensive_callbacks.functional.thermodynamics import *
