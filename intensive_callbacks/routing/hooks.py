"""The hooks on one layer: they read its decision in every forward, and add it to its statistics."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import _get_current_function_mode

from intensive_callbacks.boundary import undisturbed
from intensive_callbacks.routing.accumulator import LayerAccumulator
from intensive_callbacks.routing.decision import Decision
from intensive_callbacks.routing.edge import FunctionWatch
from intensive_callbacks.routing.proof import ExpertRows, settle
from intensive_callbacks.routing.readers import ExpertsArguments
from intensive_callbacks.routing.reading import ROUTER, Reading
from intensive_callbacks.routing.sample import RouterSample
from intensive_callbacks.routing.watch import COUNTING, PRODUCTS, SAMPLING, Call, note, noting

if TYPE_CHECKING:
    from intensive_callbacks.routing.context import RoutingContext
    from intensive_callbacks.routing.discovery import MoELayer
    from intensive_callbacks.routing.readers import Reader
    from intensive_callbacks.routing.statistics import RoutingStatistics
    from intensive_callbacks.routing.watch import Handler


# What nn.ModuleList and nn.ModuleDict have for a forward: they are not called, their children are.
UNCALLED = nn.Module.forward
NUM_PROVEN = 2  # forwards of each mode whose reading is compared with what the experts computed


class LayerHooks:
    """Hooks that read one layer's decision in every forward and add it to the layer's statistics.

    The decision is complete, and counted, when the outermost of the layer's modules returns. In the first eager
    forwards of training and of evaluation it is compared with what the experts computed, which wins.

    Args:
        context: the switches and the boundary that all layers share.
        layer: the layer to read.
        statistics: what to add to.
        reader: the user's reader, if there is one.
        shares_router: whether other layers have the same router, so that it is listened to inside the block only.

    Attributes:
        failed: whether something failed, so that this layer is not read any more.
    """

    def __init__(
        self,
        context: RoutingContext,
        layer: MoELayer,
        statistics: RoutingStatistics,
        reader: Reader | None,
        *,
        shares_router: bool = False,
    ) -> None:
        self.layer = layer
        self.part = part_of(layer)
        self.decision = Decision(layer)
        self.failed = False
        self._context, self._reader = context, reader
        self._accumulator = LayerAccumulator(context, layer, statistics)
        self._shares_router = shares_router
        self._arguments = {id(module): found for module in layer.experts if (found := ExpertsArguments(module)).ids}
        # What the experts are called with is the dispatch itself; zero-compute ones are known to the router alone.
        self._dispatch_from_experts = bool(self._arguments) and not layer.num_zero_experts
        called = [list(m.children()) if type(m).forward is UNCALLED else [m] for m in layer.experts]
        # A hook on every expert of a list costs more than all the rest, and mostly the first is called first.
        self._hooked_experts = [module for modules in called for module in modules[:1]]
        self._other_experts = [module for modules in called for module in modules[1:]]
        # Of the forwards in training (True) and evaluation (False), those that are read without watching.
        self._readable = {True, False} if self._arguments else set()
        self._see = context.hook(self.part, self._see_call, off=self.switch_off)
        # By mode, as the readings are: what is watched to count ids alone, and to sample probabilities, too.
        self._counting = dict.fromkeys((True, False), FunctionWatch(self._see, COUNTING))
        self._sampling = dict.fromkeys((True, False), FunctionWatch(self._see, SAMPLING))
        self._watching: FunctionWatch | None = None
        self._readings = {True: Reading(), False: Reading()}
        self._to_prove = {True: NUM_PROVEN, False: NUM_PROVEN}
        self._rows = ExpertRows(layer)
        self._counts_rows = False
        self._proof: ExitStack | None = None
        self._deferring = self._aside = False
        self._depth = 0
        self._handles = ExitStack()

    @property
    def ran(self) -> bool:
        """Whether a forward was seen."""
        return self._accumulator.ran

    @property
    def has_read(self) -> bool:
        """Whether its decision could be read."""
        return self._accumulator.has_read

    @property
    def has_reader(self) -> bool:
        """Whether a reader says what the layer decides."""
        return self._reader is not None

    def attach(self, handles: ExitStack) -> None:
        """Register the hooks; closing ``handles`` removes them."""
        self._handles = handles
        self._depth = 0
        if self._reader is not None:
            hook = self._context.hook(self.part, self._read_by_user, off=self.switch_off)
            module = self.layer.router or self.layer.block
            handles.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            return
        outer = [self.layer.block]
        if self.layer.router is not None and type(self.layer.router) is not nn.Linear:
            outer.append(self.layer.router)
        enter = self._context.hook(self.part, self._enter, off=self.switch_off)
        leave = self._context.hook(self.part, self._leave, off=self.switch_off)
        for module in outer:
            handles.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            handles.callback(module.register_forward_hook(leave, always_call=True).remove)
        self._hook_experts(self._hooked_experts)
        if self._counts_rows:
            self._hook_rows(handles)

    def _hook_experts(self, modules: list[nn.Module]) -> None:
        hook = self._context.hook(self.part, self._reach_experts, off=self.switch_off)
        for module in modules:
            self._handles.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def _hook_rows(self, handles: ExitStack) -> None:
        """Count the rows of each expert that is a module, until ``handles`` are closed."""
        for number, module in enumerate(self._rows.modules):
            arrive = self._context.hook(self.part, self._arrive, number, off=self.switch_off)
            depart = self._context.hook(self.part, self._depart, number, off=self.switch_off)
            handles.callback(module.register_forward_pre_hook(arrive, with_kwargs=True).remove)
            handles.callback(module.register_forward_hook(depart).remove)

    def _arrive(self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._depth > 0 and not self._context.paused:
            filled = self._proof is not None or self.decision.reading.from_experts == "filled rows"
            self._aside = True  # what is computed here is no part of the layer
            self._rows.arrive(number, args, kwargs, filled=filled)
            self._aside = False

    def _depart(self, number: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        if self._depth > 0 and self._proof is not None and not self._context.paused:
            self._aside = True
            self._rows.depart(number, output)
            self._aside = False

    def switch_off(self) -> None:
        """Remove the hooks for good, also in the middle of a forward."""
        self.failed = True
        if self._watching is not None:
            if _get_current_function_mode() is not self._watching:  # type: ignore[no-untyped-call]
                return  # somebody else's mode is inside ours: when the layer returns, ours can be left
            self._watching.__exit__(None, None, None)
            self._watching = None
        self._handles.close()
        self._clear()

    def abandon(self) -> None:
        """Stop looking in the middle of a forward that Ctrl-C broke off: torch calls no hook then."""
        self._depth = 0
        if self._watching is not None:
            self._watching.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._watching = None
        self._end_proof()
        self._clear()

    def _clear(self) -> None:
        self._aside = False
        self.decision.clear()
        if not self._rows.is_clear:  # a list of 256 experts takes longer to clear than all the rest
            self._rows.clear()

    def _see_call(
        self, handlers: tuple[Handler, ...], name: str, output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Record what one function of torch did while the layer runs."""
        if not self.failed and not self._context.paused and not self._aside:
            call = Call(name, output, args, kwargs)
            for handler in handlers:
                handler(self.decision, call)
            if self._proof is not None and name in PRODUCTS:
                self._rows.see_product(call)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """One of the layer's modules begins; at the outermost, start to look."""
        context = self._context
        if self.failed or context.paused or (self._depth == 0 and not context.is_listening):
            return
        if self._depth == 0 and self._shares_router and module is self.layer.router:
            return
        self._depth += 1
        if self._depth > 1:
            return
        training = self.layer.block.training
        self.decision.begin((*args, *kwargs.values()), self._readings[training])
        if self._to_prove[training] > 0 and not torch.compiler.is_compiling() and self.decision.is_plain:
            self._begin_proof()
            table = SAMPLING if context.sampling else COUNTING
            watch: FunctionWatch | None = FunctionWatch(self._see, noting(table, table), others=(note,))
        elif context.sampling:
            watch = self._sampling[training]
        else:
            watch = None if training in self._readable else self._counting[training]
        self._deferring = self._dispatch_from_experts and watch is None
        if watch is not None:
            self._watching = watch
            watch.__enter__()  # type: ignore[no-untyped-call] # torch's modes are not annotated

    def _reach_experts(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See what the experts are called with; if all is decided, what they compute need not be watched."""
        if self._depth == 0 or self.failed or self._context.paused:
            return
        if id(module) in self._arguments:
            self.decision.take("experts", *self._arguments[id(module)].read(args, kwargs))
        elif self._watching is None:
            return
        if self._watching is None or self._proof is not None or torch.compiler.is_compiling():
            return
        # Only the innermost mode can be left, and somebody else's may be inside ours.
        if self.decision.is_made and _get_current_function_mode() is self._watching:  # type: ignore[no-untyped-call]
            self._watching.__exit__(None, None, None)
            self._watching = None

    def _leave(self, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        """See what the router returned; count when the outermost module returns, whether it raised or not."""
        if self.failed:
            self.switch_off()
        if self._depth == 0 or self.failed or self._context.paused:
            return
        if module is self.layer.router:
            (self.decision.read_later if self._deferring else self.decision.read_output)(output)
            if self._proof is not None or ROUTER in self.decision.reading.names:
                self.decision.note_returned(output)
        self._depth -= 1
        if self._depth > 0:
            return
        was_watched = self._watching is not None and self._proof is None
        if self._watching is not None:
            self._watching.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._watching = None
        if output is not None:
            if self._proof is not None:
                self._prove(output)
            self._accumulator.add(self.decision, self._rows)
            if not torch.compiler.is_compiling():
                self._learn(hook_others=was_watched)
        self._clear()

    def _begin_proof(self) -> None:
        self._proof = ExitStack()
        self._handles.callback(self._proof.close)
        self._rows.begin()
        if not self._counts_rows:
            self._hook_rows(self._proof)

    def _end_proof(self) -> None:
        if self._proof is not None:
            self._proof.close()
            self._proof = None

    def _prove(self, output: Any) -> None:
        """Compare the reading with what the experts computed, and keep the one that agrees."""
        self._end_proof()
        training = self.layer.block.training
        self._to_prove[training] -= 1
        call = self._context.boundary.call
        reading, said = call(f"the proof of {self.part}", settle, self._rows, self.decision, output) or (
            Reading(),
            None,
        )
        if said is not None:
            self._context.warn_about_reading(self.layer.name, said, counted=bool(reading.from_experts))
        if reading != Reading():
            self._adopt(training, reading)
        self.decision.measure_k()

    def _adopt(self, training: bool, reading: Reading) -> None:
        """Read this forward of a mode, and those to come, in another way than usual."""
        self.decision.adopt(reading)
        self._readings[training] = reading
        self._to_prove[training] = 0
        if reading.from_experts and not self._counts_rows:
            self._counts_rows = True
            self._hook_rows(self._handles)
        if reading.names:
            names = reading.names - {ROUTER}
            usual = COUNTING if reading.narrows else {}
            self._sampling[training] = FunctionWatch(self._see, noting(SAMPLING, names))
            self._counting[training] = FunctionWatch(self._see, noting(usual, names))

    def _read_by_user(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count what the user's reader returns."""
        if self._reader is None or not self._context.is_listening:
            return
        with nullcontext() if torch.compiler.is_compiling() else undisturbed():
            fields = self._reader((*args, *kwargs.values()), output)
        sample = RouterSample(layer=self.layer.name, num_experts=self.decision.num_classes, **fields)
        self._accumulator.add_sample(sample, self.decision.top_k)

    def _learn(self, *, hook_others: bool) -> None:
        """Remember how the decision was seen, so that later forwards are watched no longer than they must be."""
        if hook_others and self._other_experts and self.decision.is_made:
            # The first expert was not called: from now on any of them ends the watch.
            self._hook_experts(self._other_experts)
            self._hooked_experts, self._other_experts = self._hooked_experts + self._other_experts, []
        (self._readable.add if self.decision.learn() else self._readable.discard)(self.layer.block.training)


def part_of(layer: MoELayer) -> str:
    """What a warning calls a layer."""
    return f"the routing of layer {layer.name!r}"
