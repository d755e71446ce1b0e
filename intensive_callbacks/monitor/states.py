"""The states of torchmetrics: taken out of one metric, and put into another that computes them.

torchmetrics has no public way to either; what is private of it is used here and nowhere else.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchmetrics import Metric

States = dict[str, Tensor]


def state_names(metric: Metric) -> list[str]:
    """The names of a metric's states."""
    return list(metric._defaults)  # noqa: SLF001 - see above


def take_states(metric: Metric) -> tuple[States, States]:
    """A metric's states: those to add over processes, and those to concatenate."""
    sums: States = {}
    samples: States = {}
    for name, reduction in metric._reductions.items():  # noqa: SLF001 - see above
        state = getattr(metric, name)
        if isinstance(state, list):
            rows = [each.reshape(1) if each.dim() == 0 else each for each in state]
            samples[name] = torch.cat(rows) if rows else torch.empty(0)
        elif getattr(reduction, "__name__", "") == "dim_zero_sum":
            sums[name] = state.detach().clone()
        else:
            samples[name] = state.detach().unsqueeze(0)
    return sums, samples


def put_states(metric: Metric, sums: Mapping[str, Tensor], samples: Mapping[str, Tensor]) -> None:
    """Overwrite a metric's states; one that is in neither mapping gets its default."""
    states: dict[str, Any] = {}
    for name, default in metric._defaults.items():  # noqa: SLF001 - see above
        if name in sums:
            states[name] = sums[name]
        elif name in samples:
            reduction: Any = metric._reductions[name]  # noqa: SLF001 - see above
            states[name] = [samples[name]] if isinstance(default, list) else reduction(samples[name])
        else:
            states[name] = [] if isinstance(default, list) else default.clone()
    vars(metric).update(states)  # not through Module.__setattr__, which is slow


def arguments_of_update(metric: Any) -> tuple[set[str], set[str]]:
    """The names of the arguments of a metric's ``update``: those it requires, and all it takes."""
    parameters = [
        each
        for name, each in inspect.signature(metric.update).parameters.items()
        if name != "self" and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    ]
    return {each.name for each in parameters if each.default is each.empty}, {each.name for each in parameters}


def update_unwrapped(metric: Metric, arguments: Mapping[str, Any]) -> None:
    """``update`` without torchmetrics' bookkeeping, which costs more than most updates."""
    type(metric).update(metric, **arguments)


def compute_unwrapped(metric: Metric) -> Any:
    """``compute`` without a cache and without a synchronization: the states are those of all processes already."""
    return type(metric).compute(metric)


def standard_error(metric: Metric) -> Tensor | None:
    """The standard error of the value, of a metric that has one."""
    method = getattr(type(metric), "standard_error", None)
    return None if method is None else inspect.unwrap(method)(metric)
