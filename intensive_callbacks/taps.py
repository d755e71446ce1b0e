"""Taps: which signal inside a model feeds which metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch.utils.hooks import RemovableHandle
    from torchmetrics import Metric

    from intensive_callbacks.routing.sample import RouterSample


@dataclass
class Tap:
    """A forward hook on one module that feeds one metric.

    Args:
        module: the module to listen to, or its name in the model.
        read: ``read(inputs, output)`` gets the positional arguments and the output of the module's forward, detached,
            and returns the arguments of the metric's update: a tuple, a dict, or a single value.
        into: the metric, or the key or symbol of one, which is then built from what is known of the model.

    A tap listens to the validation where there is one, otherwise to the training steps that feed a logged value. Its
    metric is emptied when it has been logged. In a model that is compiled before, a tap breaks the graph.

    Example:
        >>> from intensive_callbacks import ConfigurationEntropyScore, Monitor
        >>> gate = nn.Linear(4, 3)
        >>> tap = Tap(gate, lambda inputs, output: output.argmax(-1), ConfigurationEntropyScore(num_experts=3))
        >>> with Monitor(gate, every_n_steps=1, taps=[tap]) as monitor:
        ...     monitor.observe(torch.eye(4))
        ...     _ = gate(torch.eye(4))
        ...     "intensive/config_entropy" in monitor.log(step=1)
        True
    """

    module: nn.Module | str
    read: Callable[[Any, Any], Any]
    into: Metric | str
    listening: bool = field(default=False, init=False, repr=False)
    error: Exception | None = field(default=None, init=False, repr=False)

    def find(self, modules: Mapping[str, nn.Module]) -> nn.Module:
        """The module listened to, among the named modules of a model.

        Raises:
            ValueError: if the model has no module of this name.
        """
        if isinstance(self.module, nn.Module):
            return self.module
        if self.module not in modules:
            known = ", ".join(name for name in modules if name)
            raise ValueError(f"a Tap names the module {self.module!r}, but the model has only {known}")
        return modules[self.module]

    def attach(self, module: nn.Module, metric: Metric) -> RemovableHandle:
        """Listen to ``module`` and feed ``metric`` until the handle is removed."""

        @torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it unannotated
        def hear(_module: nn.Module, inputs: Any, output: Any) -> None:
            # Inside a backward pass the forward is a recomputation, which has been heard already.
            if not self.listening or torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - there is no public way
                return
            try:
                feed(metric, self.read(*tree_map_only(Tensor, Tensor.detach, (inputs, output))))
            except Exception as error:  # noqa: BLE001 - raised or warned of where the value is logged
                self.error = error

        return module.register_forward_hook(hear)


@dataclass
class RouterTap:
    """A router's decisions, beside the batch that they were made for, that feed one metric.

    Args:
        layer: the name of a watched mixture of experts, as in ``RouterObserver(model).layers``, or a pattern of
            several, which then feed the metric together.
        read: ``read(sample, batch)`` gets the :class:`RouterSample` of each forward, whose rows are the tokens of the
            batch in their order, and returns the arguments of the metric's update: a tuple, a dict, or a single value.
        into: the metric, or the key or symbol of one, which is then built from what is known of the model.

    It listens when a :class:`Tap` does. In a validation the sample has the expert ids but need not have logits; a plain
    loop calls ``monitor.observe(batch)`` there, too. What a compiled model decides is counted but not heard.

    Example:
        >>> from intensive_callbacks import CouplingQuality, RouterTap
        >>> tap = RouterTap(
        ...     "layers.3.mlp",
        ...     lambda sample, batch: (batch["input_ids"].flatten() % 256, sample.expert_ids[:, 0]),
        ...     CouplingQuality(num_x=256, num_y=64),
        ... )
    """

    layer: str
    read: Callable[[RouterSample, Any], Any]
    into: Metric | str
    listening: bool = field(default=False, init=False, repr=False)
    error: Exception | None = field(default=None, init=False, repr=False)

    def find(self, layers: Iterable[str]) -> list[str]:
        """The watched layers that are meant.

        Raises:
            ValueError: if there is none.
        """
        layers = list(layers)
        found = [layer for layer in layers if fnmatchcase(layer, self.layer)]
        if not found:
            known = ", ".join(layers) or "none"
            raise ValueError(f"a RouterTap names the layer {self.layer!r}, but those watched are {known}")
        return found

    def hear(self, sample: RouterSample, batch: Any, metric: Metric) -> None:
        """Feed ``metric`` with what one router decided."""
        try:
            feed(metric, self.read(sample, batch))
        except Exception as error:  # noqa: BLE001 - raised or warned of where the value is logged
            self.error = error


@torch.no_grad()
def feed(metric: Metric, arguments: Any) -> None:
    """Update a metric with a tuple, a dict or a single value."""
    if isinstance(arguments, dict):
        metric.update(**arguments)
    elif isinstance(arguments, tuple):
        metric.update(*arguments)
    else:
        metric.update(arguments)
