"""Taps: which signal inside a model feeds which metric."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from intensive_callbacks.boundary import Hook, Refused, undisturbed
from intensive_callbacks.monitor.states import put_states, take_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch.utils.hooks import RemovableHandle
    from torchmetrics import Metric

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.monitor.states import States
    from intensive_callbacks.routing.sample import RouterSample


@dataclass
class Tap:
    """A forward hook on a module that feeds one metric.

    Args:
        module: the module to observe, or its name in the model, or a pattern of several names, such as
            ``"blocks.*.mlp"``, whose modules then feed the metric together.
        read: ``read(inputs, output)`` gets the positional arguments and the output of the module's forward, detached,
            and returns the arguments of the metric's update: a tuple, a dict, or a single value.
        into: the metric, or the key or symbol of one, which is then built from what is known of the model; the width of
            features, logits or states is that of the first batch.

    A tap is read in the validation where there is one, otherwise in the training steps that feed a logged value. Its
    metric is emptied when it has been logged. In a model that was compiled before, a tap breaks the graph.

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

    def find(self, modules: Mapping[str, nn.Module]) -> list[nn.Module]:
        """The modules that are observed, among the named modules of a model.

        Raises:
            ValueError: if the model has no module of this name.
        """
        if isinstance(self.module, nn.Module):
            return [self.module]
        if self.module in modules:
            return [modules[self.module]]
        found = [module for name, module in modules.items() if fnmatchcase(name, self.module)]
        if not found:
            known = ", ".join(name for name in modules if name)
            raise Refused(f"a Tap names the module {self.module!r}, but the model has only {known}")
        return found


@dataclass
class RouterTap:
    """A router's decisions, beside the batch that they were made for, that feed one metric.

    Args:
        layer: the name of an observed mixture of experts, as in ``RouterObserver(model).layers``, or a pattern of
            several, which then feed the metric together.
        read: ``read(sample, batch)`` gets the :class:`RouterSample` of each forward, whose rows are the tokens of the
            batch in their order, and returns the arguments of the metric's update: a tuple, a dict, or a single value.
            Hand ``sample.mask`` on to leave out padding.
        into: the metric, or the key or symbol of one, which is then built from what is known of the model.

    It is read when a :class:`Tap` is. In a validation the sample has the expert ids but need not have logits; a plain
    loop calls ``monitor.observe(batch)`` there, too. What a compiled model decides is counted but not read.

    Example:
        >>> from intensive_callbacks import CouplingQuality, RouterTap
        >>> tap = RouterTap(
        ...     "layers.3.mlp",
        ...     lambda sample, batch: {
        ...         "x": batch["input_ids"].flatten() % 256,
        ...         "y": sample.expert_ids[:, 0],
        ...         "mask": sample.mask,
        ...     },
        ...     CouplingQuality(num_x=256, num_y=64),
        ... )
    """

    layer: str
    read: Callable[[RouterSample, Any], Any]
    into: Metric | str

    def find(self, layers: Iterable[str]) -> list[str]:
        """The observed layers that match.

        Raises:
            ValueError: if there is none.
        """
        layers = list(layers)
        found = [layer for layer in layers if fnmatchcase(layer, self.layer)]
        if not found:
            known = ", ".join(layers) or "none"
            raise Refused(f"a RouterTap names the layer {self.layer!r}, but those observed are {known}")
        return found


class Feeder:
    """Feeds one metric as the model runs, until its window is closed.

    Args:
        name: the part's name in warnings.
        build: gives the metric, when there first is something to feed it with, from the arguments of its update.
        boundary: what an exception is reported to; the feeder is then off for the rest of the run.
    """

    def __init__(self, name: str, build: Callable[..., Metric | None], boundary: Boundary) -> None:
        self.name = name
        self.is_open, self.has_failed = False, False
        self._build, self._boundary = build, boundary
        self._metric: Metric | None = None
        self._handles: list[RemovableHandle] = []

    def open(self) -> None:
        """Feed the metric from now on."""
        self.is_open = not self.has_failed

    def shut(self) -> None:
        """Ignore what comes from now on."""
        self.is_open = False

    def register(self, modules: Iterable[nn.Module], read: Callable[[Any, Any], Any]) -> None:
        """Feed the metric by a forward hook on each of the modules."""

        @torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it unannotated
        def forward_ended(_module: nn.Module, inputs: Any, output: Any) -> None:
            # Inside a backward pass the forward is a recomputation, which has been read already.
            if self.is_open and torch._C._current_graph_task_id() == -1:  # noqa: SLF001 - there is no public way
                self.feed(read, *tree_map_only(Tensor, Tensor.detach, (inputs, output)))

        hook = Hook(self._boundary.call, self.name, forward_ended, off=self.disable)
        self._handles = [module.register_forward_hook(hook) for module in modules]

    def feed(self, read: Callable[..., Any], *arguments: Any) -> None:
        """Update the metric with what ``read(*arguments)`` returns: a tuple, a dict or a single value."""
        if not self.is_open:
            return
        with undisturbed(), torch.no_grad():
            values = read(*arguments)
            named = values if isinstance(values, dict) else {}
            unnamed = () if isinstance(values, dict) else values if isinstance(values, tuple) else (values,)
            if self._metric is None:
                self._metric = self._build(*unnamed, **named)
            if self._metric is not None:
                self._metric.update(*unnamed, **named)

    def feed_safely(self, read: Callable[..., Any], *arguments: Any) -> None:
        """The same for a caller in somebody's forward."""
        self._boundary.call(self.name, self.feed, read, *arguments, off=self.disable)

    def disable(self) -> None:
        """Stop for the rest of the run."""
        self.has_failed, self.is_open = True, False
        self.remove()

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def take(self, *, reset: bool = True) -> tuple[States, States] | None:
        """The metric's states, those to add and those to concatenate; if ``reset``, the metric begins anew.

        ``None`` before the first batch where only that tells how to build the metric.
        """
        if self._metric is None:
            self._metric = self._build()
        if self._metric is None:
            return None
        states = take_states(self._metric)
        if reset:
            self._metric.reset()
        return states

    @property
    def was_fed(self) -> bool:
        """Whether there is anything to save."""
        return self._metric is not None and not self.has_failed

    def restore(self, sums: States, samples: States) -> None:
        """Overwrite the metric's states with those that :meth:`take` returned."""
        if self._metric is None:
            self._metric = self._build()
        if self._metric is not None:
            device = self._metric.device
            sums, samples = ({name: each.to(device) for name, each in states.items()} for states in (sums, samples))
            put_states(self._metric, sums, samples)

    def reset(self) -> None:
        """Reset the metric."""
        if self._metric is not None:
            self._metric.reset()
