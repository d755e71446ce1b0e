"""Hooks on every router of a model, which fill one accumulator each and change nothing."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from intensive_callbacks.routing.decision import Decision
from intensive_callbacks.routing.discovery import MoELayer, discover
from intensive_callbacks.routing.hooks import LayerHooks
from intensive_callbacks.routing.masks import MaskHooks, takers_of_masks
from intensive_callbacks.routing.readers import registered_reader
from intensive_callbacks.routing.statistics import RoutingStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle
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

    Attributes:
        layers: the :class:`MoELayer` found.
        statistics: the :class:`RoutingStatistics` of each layer, by its name.
        sampling: whether coming forwards also fill the sums that need weights or probabilities; ids always count.
        in_backward: set it while backward runs, so that the recomputation of a checkpointed compiled region is not
            counted twice. In eager mode that is known without it.
        mask: ``[B, S]`` booleans, false on padding; ``None`` takes the ``attention_mask`` of the model's inputs.

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
        on_sample: Callable[[RouterSample], None] | None = None,
    ) -> None:
        self.model = model
        self.on_sample = on_sample
        self.sampling = True
        self.in_backward = False
        self.mask: Tensor | None = None
        self.inputs_mask: dict[str, Tensor | None] = {}
        self.attached = False
        self._told = False
        self.layers = discover(model, routers)
        self._routers = routers
        self._attachment = ExitStack()
        self.statistics = {
            layer.name: RoutingStatistics(layer.num_experts + layer.num_zero_experts, _device(layer))
            for layer in self.layers
        }
        self._hooks = [LayerHooks(self, layer, self._reader(layer)) for layer in self.layers]

    def _reader(self, layer: MoELayer) -> Reader | None:
        if isinstance(self._routers, dict):
            readers: dict[str, Reader] = self._routers
            return next(read for pattern, read in readers.items() if fnmatchcase(layer.name, pattern))
        return registered_reader(layer.router or layer.block) or registered_reader(layer.block)

    def attach(self) -> Self:
        """Put the hooks on; twice is once."""
        if self.attached:
            return self
        for layer in self.layers:
            self.statistics[layer.name].to(_device(layer))
        handles = [handle for hooks in self._hooks for handle in hooks.register()]
        for module in takers_of_masks(self.model) if self.layers else ():
            handles += MaskHooks(self, module).register(module)
        self.keep(handles)
        self._attachment.enter_context(_side_effects_in_compiled_checkpoints())
        self.attached = True
        return self

    def keep(self, handles: Iterable[RemovableHandle]) -> None:
        """Take these hooks off with all the others."""
        for handle in handles:
            self._attachment.callback(handle.remove)

    def detach(self) -> None:
        """Take the hooks off; if the model ran, say which layers were never seen."""
        self._attachment.close()
        for hooks in self._hooks:
            hooks.abandon()
        if self.attached and any(hooks.ran for hooks in self._hooks):
            self.warn_of_silence()
        self.attached = False

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ran = any(hooks.ran for hooks in self._hooks)
        self.detach()
        if kind is None and not ran:
            self.warn_of_silence()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """What runs in here is no forward of this model's, even in the middle of one: it is not seen."""
        for hooks in self._hooks:
            hooks.watch.decision = Decision(hooks.layer)
        try:
            yield
        finally:
            for hooks in self._hooks:
                hooks.watch.decision = hooks.decision

    def reset(self) -> None:
        """Set all sums to zero, in place."""
        for statistics in self.statistics.values():
            statistics.reset()

    def snapshot(self) -> dict[str, dict[str, Tensor]]:
        """A copy of all sums, by layer and name."""
        return {
            name: {key: state.clone() for key, state in statistics.states().items()}
            for name, statistics in self.statistics.items()
        }

    def restore(self, snapshot: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set all sums, in place, to what :meth:`snapshot` kept."""
        for name, statistics in self.statistics.items():
            statistics.restore(snapshot[name])

    @property
    def silent(self) -> list[str]:
        """The layers whose hooks have not fired."""
        return [hooks.layer.name for hooks in self._hooks if not hooks.ran]

    def warn_of_silence(self) -> None:
        """Warn, once, of the layers that were never seen; for a moment at which the model must have run."""
        if self._told:
            return
        self._told = True
        unread = [hooks.layer.name for hooks in self._hooks if hooks.ran and not hooks.read]
        if unread:
            warnings.warn(
                f"the routing of {_listing(unread)} could not be read: the layer ran, but no selection of experts was "
                "seen; give it a reader: routers={'name.of.the.router': read}",
                stacklevel=3,
            )
        if self.silent:
            warnings.warn(
                f"the routers of {_listing(self.silent)} never fired: the model was compiled before the hooks were on, "
                "or its forward does not call these modules",
                stacklevel=3,
            )

    def is_recomputing(self) -> bool:
        """Whether a forward that runs now is the recomputation of a checkpointed one."""
        if self.in_backward:
            return True
        # Right in every mode of eager checkpointing, where grad mode is not; a compiled graph cannot ask.
        return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1  # noqa: SLF001

    def mask_for(self, layer: MoELayer, num_tokens: int) -> Tensor | None:
        """The padding mask of a layer's tokens, row by row, if one is known that fits them."""
        mask = self.mask
        if mask is None and "decoder_attention_mask" in self.inputs_mask and "decoder." in f".{layer.name}":
            mask = self.inputs_mask["decoder_attention_mask"]
        elif mask is None:
            mask = self.inputs_mask.get("attention_mask")
        if mask is None or num_tokens % mask.shape[0] != 0:
            return None
        # With a cache the mask covers what came before, too: the tokens are its last columns.
        columns = num_tokens // mask.shape[0]
        return (mask[:, -columns:] != 0).reshape(-1) if columns <= mask.shape[-1] else None


def _side_effects_in_compiled_checkpoints() -> AbstractContextManager[object]:
    """Compiling a checkpointed region refuses what a hook notes in it, unless backward need not note it again."""
    from torch._dynamo import config

    name = "skip_fwd_side_effects_in_bwd_under_checkpoint"
    return config.patch(name, True) if hasattr(config, name) else nullcontext()


def _device(layer: MoELayer) -> torch.device:
    tensors = [*(layer.router or layer.block).parameters(), *layer.block.parameters(), *layer.block.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _listing(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
