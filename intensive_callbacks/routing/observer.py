"""Hooks on every router of a model, which fill one accumulator each and change nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.routing.context import RoutingContext
from intensive_callbacks.routing.discovery import MoELayer, find_layers, select_layers
from intensive_callbacks.routing.forwards import FORWARD_PART, ForwardHooks
from intensive_callbacks.routing.hooks import LayerHooks, part_of
from intensive_callbacks.routing.lookalikes import lookalikes
from intensive_callbacks.routing.masks import MASK_PART, MaskHooks, modules_accepting_a_mask
from intensive_callbacks.routing.readers import registered_reader
from intensive_callbacks.routing.reports import (
    warn_about_improbable_scores,
    warn_about_invalid_ids,
    warn_about_lookalikes,
    warn_about_silent_layers,
    warn_about_unread_layers,
)
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums, reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from torch import Tensor
    from typing_extensions import Self

    from intensive_callbacks.routing.readers import Reader
    from intensive_callbacks.routing.sample import RouterSample


class RouterObserver:
    """Counts what the routers of a model decide, by forward hooks that only add to sums on the model's device.

    Every mixture of experts of the model is found by its structure, whether its router is a module or a few lines of
    its block's forward. What is counted are the expert ids that the experts receive. Nothing is registered in the
    model, nothing waits for the device, and a compiled forward stays one graph if the hooks were attached before its
    first call.

    Args:
        model: any module.
        routers: ``"auto"``; a pattern that restricts what is found; ``{pattern: read}`` for routers of your own, where
            ``read(inputs, output)`` returns keyword arguments of :class:`RouterSample`; ``None`` for none.
        on_sample: called with the :class:`RouterSample` of every counted forward of every layer, in eager mode.
        boundary: what failures are reported to; for the use of the monitor.

    Attributes:
        layers: the :class:`MoELayer` found.
        statistics: the :class:`RoutingStatistics` of each layer, by its name.
        sampling: whether coming forwards also fill the sums that need weights or probabilities; ids always count.
        in_backward: set it while backward runs, so that the recomputation of a checkpointed compiled region is not
            counted twice. In eager mode that is known without it.
        mask: ``[B, S]`` booleans, false on padding, or any form that :func:`real_tokens` reads; ``None`` takes the
            mask that the model is called with: ``attention_mask``, ``src_key_padding_mask``, ``key_padding_mask``,
            ``padding_mask`` or, for a decoder, ``decoder_attention_mask``.
        on_sample: as above; ``None`` for nobody.
        handles: what :meth:`detach` closes to remove every hook.

    An exception in a hook is one warning: that layer is switched off, the others and the model's forward go on.

    Raises:
        ValueError: if a pattern matches nothing.

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.gate = nn.Linear(16, 4)
        ...         self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        ...     def forward(self, x):
        ...         weights, ids = self.gate(x).softmax(-1).topk(2)
        ...         return sum((weights * (ids == e)).sum(-1, True) * self.experts[e](x) for e in range(4))
        >>> model = nn.Sequential(Block(), Block())
        >>> with RouterObserver(model) as observer:
        ...     _ = model(torch.randn(10, 16))
        >>> {name: int(sums.states()["load"].sum()) for name, sums in observer.statistics.items()}
        {'0': 20, '1': 20}
    """

    def __init__(
        self,
        model: nn.Module,
        routers: str | Mapping[str, Reader] | None = "auto",
        *,
        on_sample: Callable[[RouterSample], object] | None = None,
        boundary: Boundary | None = None,
    ) -> None:
        self.model = model
        self._boundary = boundary or Boundary()
        self._context = RoutingContext(self._boundary, on_sample)
        call = self._boundary.call
        found = [] if routers is None else call("finding the routers", find_layers, model, call) or []
        self.layers = select_layers(model, found, routers)
        if routers == "auto":
            seen = call("looking for mixtures that were not found", lookalikes, model, self.layers) or []
            warn_about_lookalikes(self._boundary, seen)
        self.statistics = {layer.name: RoutingStatistics(layer.num_classes) for layer in self.layers}
        readers = routers if isinstance(routers, dict) else {}
        self._num_uses = Counter(id(layer.router) for layer in self.layers if layer.router is not None)
        hooks = ((layer.name, call(part_of(layer), self._build, layer, readers)) for layer in self.layers)
        self._hooks = {name: built for name, built in hooks if built is not None}
        self.handles = ExitStack()

    def _build(self, layer: MoELayer, readers: Mapping[str, Reader]) -> LayerHooks:
        reader = next((read for pattern, read in readers.items() if fnmatchcase(layer.name, pattern)), None)
        reader = reader or registered_reader(layer.router or layer.block) or registered_reader(layer.block)
        shares = self._num_uses[id(layer.router)] > 1
        return LayerHooks(self._context, layer, self.statistics[layer.name], reader, shares_router=shares)

    @property
    def attached(self) -> bool:
        """Whether the hooks are registered."""
        return self._context.attached

    @property
    def sampling(self) -> bool:
        """Whether coming forwards also fill the sums that need weights or probabilities."""
        return self._context.sampling

    @sampling.setter
    def sampling(self, sampling: bool) -> None:
        self._context.switch(sampling=sampling)

    @property
    def in_backward(self) -> bool:
        """Whether backward runs, so that hooks that fire belong to activation recomputation and are ignored."""
        return self._context.in_backward

    @in_backward.setter
    def in_backward(self, in_backward: bool) -> None:
        self._context.switch(in_backward=in_backward)

    @property
    def mask(self) -> Tensor | None:
        """The padding mask of the coming forwards."""
        return self._context.mask

    @mask.setter
    def mask(self, mask: Tensor | None) -> None:
        self._context.switch(mask=mask)

    @property
    def on_sample(self) -> Callable[[RouterSample], object] | None:
        """The subscriber of every :class:`RouterSample`; it may be set and removed while the hooks are registered."""
        return self._context.on_sample

    @on_sample.setter
    def on_sample(self, on_sample: Callable[[RouterSample], object] | None) -> None:
        self._context.switch(on_sample=on_sample)

    def switch(self, **switches: Any) -> None:
        """Set ``sampling``, ``in_backward``, ``mask`` or ``on_sample``."""
        self._context.switch(**switches)

    def attach(self) -> Self:
        """Register the hooks; a second call does nothing."""
        if self._context.attached:
            return self
        for layer in self.layers:
            hooks = self._hooks.get(layer.name)
            if hooks is not None and not hooks.failed:
                self._attach(part_of(layer), self._attach_layer, hooks, off=hooks.switch_off)
        if self.layers:
            self._attach(MASK_PART, self._attach_masks)
            read_by_us = [
                layer for layer in self.layers if layer.name in self._hooks and not self._hooks[layer.name].has_reader
            ]
            self._attach(FORWARD_PART, ForwardHooks(self._context, self.model, read_by_us).attach)
            self.handles.enter_context(_side_effects_in_compiled_checkpoints())
        self._context.switch(attached=True)
        return self

    def _attach(
        self, part: str, attach: Callable[..., object], *args: Any, off: Callable[[], object] | None = None
    ) -> None:
        handles = ExitStack()
        self.handles.callback(handles.close)
        self._boundary.call(part, attach, *args, handles, off=off or handles.close)

    def _attach_layer(self, hooks: LayerHooks, handles: ExitStack) -> None:
        self.statistics[hooks.layer.name].to(_device(hooks.layer))
        hooks.attach(handles)

    def _attach_masks(self, handles: ExitStack) -> None:
        for module in modules_accepting_a_mask(self.model):
            MaskHooks(self._context, module).attach(handles)

    def detach(self) -> None:
        """Remove the hooks; if the model ran, warn about the layers that were never observed."""
        was_attached = self._context.attached
        self.handles.close()
        self._context.switch(attached=False)
        for hooks in self._hooks.values():
            self._boundary.call(hooks.part, hooks.abandon)
        if was_attached and any(hooks.ran for hooks in self._hooks.values()):
            self._boundary.call("the report on unobserved layers", self._report)

    def _report(self) -> None:
        self.warn_about_unobserved_layers()
        self.read()

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.detach()
        if kind is None:
            self.warn_about_unobserved_layers()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which nothing is observed: for an extra forward pass, also in the middle of another one."""
        before = self._context.paused
        self._context.switch(paused=True)
        try:
            yield
        finally:
            self._context.switch(paused=before)

    def read(self, device: torch.device | str = "cpu") -> RoutingSums:
        """A copy of all sums; a layer that :attr:`failed` has nothing but ``num_invalid`` = 1."""
        sums = RoutingSums.of(self.statistics, device)
        if self.failed:
            sums = sums.without(self.failed)
        if self.unobserved and len(self.unobserved) < len(self.layers):
            sums = sums.expecting(self.unobserved)
        if torch.device(device).type == "cpu":  # on another device the numbers would have to be waited for
            warn_about_invalid_ids(self._boundary, sums, self.failed)
            warn_about_improbable_scores(self._boundary, sums)
        return sums

    def restore(self, sums: RoutingSums) -> None:
        """Overwrite all sums, in place, with those that :meth:`read` returned."""
        sums.write(self.statistics)

    def forget_scores(self) -> None:
        """Set the sums that need weights or probabilities to zero, in place."""
        for statistics in self.statistics.values():
            statistics.forget_scores()

    def reset(self) -> None:
        """Set all sums to zero, in place."""
        reset(self.statistics.values())

    @property
    def failed(self) -> list[str]:
        """The layers that are not observed any more, since something failed."""
        return [name for name in self.statistics if name not in self._hooks or self._hooks[name].failed]

    @property
    def unobserved(self) -> list[str]:
        """The layers whose hooks have not fired."""
        return [name for name, hooks in self._hooks.items() if not hooks.ran and not hooks.failed]

    def warn_about_unobserved_layers(self) -> None:
        """Warn once about the layers that were never observed; for a moment at which the model must have run."""
        unread = [name for name, hooks in self._hooks.items() if hooks.ran and not hooks.has_read and not hooks.failed]
        warn_about_unread_layers(self._boundary, unread)
        warn_about_silent_layers(self._boundary, self.unobserved)


def _side_effects_in_compiled_checkpoints() -> AbstractContextManager[object]:
    """Compiling a checkpointed region refuses a hook's side effects, unless backward need not repeat them."""
    from torch._dynamo import config

    name = "skip_fwd_side_effects_in_bwd_under_checkpoint"
    return config.patch(name, True) if hasattr(config, name) else nullcontext()


def _device(layer: MoELayer) -> torch.device:
    tensors = [*(layer.router or layer.block).parameters(), *layer.block.parameters(), *layer.block.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
