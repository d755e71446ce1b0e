"""The hooks themselves: what they may do is little, since they run inside somebody's training step."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode

from intensive_callbacks.routing.decision import Decision
from intensive_callbacks.routing.readers import ExpertsArguments
from intensive_callbacks.routing.sample import RouterSample
from intensive_callbacks.routing.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.hooks import RemovableHandle
    from typing_extensions import Self

    from intensive_callbacks.routing.discovery import MoELayer
    from intensive_callbacks.routing.observer import RouterObserver
    from intensive_callbacks.routing.readers import Reader


# What nn.ModuleList and nn.ModuleDict have for a forward: they are not called, their children are.
UNCALLED = nn.Module.forward


class Hooks:
    """Hooks that a copy or a pickle of the model carries along as hooks that do nothing."""

    observer: RouterObserver | None = None
    depth = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self).__new__(type(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).__new__, (type(self),)


class LayerHooks(Hooks):
    """Reads one layer's decision in every forward, and adds it to the layer's statistics.

    The decision is complete when the outermost of the layer's modules returns; that is where it is counted.

    Args:
        observer: whose switches and statistics are used.
        layer: the layer to read.
        reader: the user's reader, if there is one.
    """

    def __init__(self, observer: RouterObserver, layer: MoELayer, reader: Reader | None) -> None:
        self.observer = observer
        self.layer = layer
        self.reader = reader
        self.statistics = observer.statistics[layer.name]
        self.decision = Decision(layer)
        self.watch = Watch(self.decision)
        self.arguments = {id(module): found for module in layer.experts if (found := ExpertsArguments(module)).ids}
        # What the experts are called with is the dispatch itself; zero-compute ones are known to the router alone.
        self.told_by_experts = bool(self.arguments) and not layer.num_zero_experts
        called = [list(m.children()) if type(m).forward is UNCALLED else [m] for m in layer.experts]
        # A hook on every expert of a list costs more than all the rest, and mostly the first is called first.
        self.announced = [module for modules in called for module in modules[:1]]
        self.unannounced = [module for modules in called for module in modules[1:]]
        # Of the forwards in training (True) and evaluation (False), those that are read without watching.
        self.known = {True, False} if self.arguments else set()
        self.watching = False
        self.deferring = False
        self.broken = False
        self.ran = False
        self.read = False

    def register(self) -> list[RemovableHandle]:
        """Put the hooks on."""
        self.depth = 0
        if self.reader is not None:
            module = self.layer.router or self.layer.block
            return [module.register_forward_hook(self.read_by_user, with_kwargs=True)]
        outer = [self.layer.block]
        if self.layer.router is not None and type(self.layer.router) is not nn.Linear:
            outer.append(self.layer.router)
        handles = [module.register_forward_pre_hook(self.enter, with_kwargs=True) for module in outer]
        handles += [module.register_forward_hook(self.leave, always_call=True) for module in outer]
        return handles + [self._announce(module) for module in self.announced]

    def _announce(self, expert: nn.Module) -> RemovableHandle:
        return expert.register_forward_pre_hook(self.reach_experts, with_kwargs=True)

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin to look, at the outermost of the layer's modules."""
        observer = self.observer
        if observer is None or not observer.attached or observer.is_recomputing():
            return
        self.depth += 1
        if self.depth > 1:
            return
        self.decision.clear()
        for hidden in (*args, *kwargs.values()):
            if isinstance(hidden, Tensor) and hidden.is_floating_point():
                if hidden.dim() > 1:
                    self.decision.num_tokens = hidden.numel() // max(hidden.shape[-1], 1)
                break
        self.watch.scores = observer.sampling
        self.watching = observer.sampling or self.layer.block.training not in self.known
        self.deferring = self.told_by_experts and not self.watching
        if self.watching:
            self.watch.__enter__()  # type: ignore[no-untyped-call] # torch's modes are not annotated

    def reach_experts(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See what the experts are called with; if all is decided, what they compute need not be watched."""
        if self.depth == 0:
            return
        if id(module) in self.arguments:
            self.decision.read_arguments(*self.arguments[id(module)].read(args, kwargs))
        elif not self.watching:
            return
        if self.watching and self.decision.is_made and not torch.compiler.is_compiling():
            # Only the innermost mode can be left, and somebody else's may be inside ours.
            innermost = _get_current_function_mode()  # type: ignore[no-untyped-call] # torch's modes are not annotated
            if innermost is self.watch:
                self._stop_watching()

    def _stop_watching(self) -> None:
        self.watching = False
        self.watch.__exit__(None, None, None)  # type: ignore[no-untyped-call] # torch's modes are not annotated

    def _announce_all(self) -> None:
        """The first expert was not called: from now on any of them ends the watch."""
        if self.observer is not None:
            self.observer.keep([self._announce(module) for module in self.unannounced])
        self.announced, self.unannounced = self.announced + self.unannounced, []

    def leave(self, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        """See what the router returned; count when the outermost module returns, whether it raised or not."""
        if self.depth == 0:
            return
        if module is self.layer.router:
            if self.deferring:
                self.decision.returned = output
            else:
                self.decision.read_output(output)
        self.depth -= 1
        if self.depth > 0:
            return
        if self.watching:
            self._stop_watching()
            if self.unannounced and self.decision.is_made and not torch.compiler.is_compiling():
                self._announce_all()
        if output is not None:
            self._count(self.decision.sample)
            if not torch.compiler.is_compiling():
                self._learn()
        self.decision.clear()

    def abandon(self) -> None:
        """Stop looking in the middle of a forward that Ctrl-C broke off: torch runs no hook then."""
        if self.depth > 0 and self.watching:
            self.watch.__exit__(None, None, None)  # type: ignore[no-untyped-call] # torch's modes are not annotated
        self.depth = 0
        self.decision.clear()

    def read_by_user(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count what the user's reader says."""
        observer, reader = self.observer, self.reader
        if observer is None or reader is None or not observer.attached or observer.is_recomputing():
            return
        decision = self.decision
        self._count(
            lambda: RouterSample(
                layer=decision.name, num_experts=decision.num_classes, **reader((*args, *kwargs.values()), output)
            )
        )

    def _learn(self) -> None:
        """Whether such forwards are read without watching, and who chooses whom.

        A capacity mask is seen in the forward alone.
        """
        seen = self.decision
        if seen.is_made and seen.num_tokens != seen.num_classes:
            seen.experts_choose = seen.expert_ids is None
        is_known = seen.source is not None and (seen.expert_ids is None or seen.dispatch is None)
        (self.known.add if is_known else self.known.discard)(self.layer.block.training)

    def _count(self, read: Callable[[], RouterSample | None]) -> None:
        observer = self.observer
        if observer is None or self.broken:
            return
        self.ran = True
        ids = sample = None
        try:
            if not observer.sampling and observer.on_sample is None and self.reader is None:
                ids = self.decision.ids()
            if ids is not None:  # nearly every step of a training: as little as can be
                self.statistics.count(ids, observer.mask_for(self.layer, ids.shape[0]))
            elif (sample := read()) is not None:
                if sample.mask is None:
                    sample.mask = observer.mask_for(self.layer, sample.num_tokens)
                self.statistics.observe(sample, sampling=observer.sampling)
        except Exception as error:  # noqa: BLE001 - a shape that was not foreseen must not end a training run
            self.broken = True
            warnings.warn(f"the routing of {self.layer.name} is not counted any more: {error!r}", stacklevel=2)
            return
        self.read = self.read or ids is not None or sample is not None
        if sample is not None and observer.on_sample is not None and not torch.compiler.is_compiling():
            observer.on_sample(sample)
