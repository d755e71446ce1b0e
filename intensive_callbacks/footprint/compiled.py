"""Counting the FLOPs of a forward pass in training, of which parts may be compiled: these are counted aside."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from intensive_callbacks.footprint.flop_counter import FlopCount, FlopCounter, compiled_attribute
from intensive_callbacks.footprint.preserve import uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self


class TrainingFlopCounter:
    """Counts the forward pass that a training runs anyway, and leaves it, compiled or not, bit-identical.

    Eager code is watched by a :class:`FlopCounter`. A compiled part must not run under one, which would change its
    rounding: when it is called the counter is off, and the part first runs aside, uncompiled, without gradients and
    without hooks, on copies of its inputs. Of the parts within parts only the outermost are seen to.

    Args:
        model: the model that trains.
        unseen: a context in which what runs is not seen by those who watch the training.
        returned: told of each compiled part that has run, with its output, ``None`` where it raised.

    Raises:
        ValueError: if something in the model can neither be watched nor run aside.
    """

    def __init__(
        self,
        model: nn.Module,
        unseen: Callable[[], AbstractContextManager[object]] = nullcontext,
        returned: Callable[[nn.Module, Any], None] = lambda _module, _output: None,
    ) -> None:
        _require_countable(model)
        self.parts = list(_outermost(model, set()))
        self._unseen, self._returned = unseen, returned
        self._counter = FlopCounter()
        self._replaced: list[tuple[dict[str, Any], str, Any]] = []
        self._error: Exception | None = None

    def start(self) -> Self:
        """Begin to count."""
        for module, name in self.parts:
            table = vars(module)
            self._replaced.append((table, name, table.get(name)))
            table[name] = self._in_place_of(getattr(module, name), module)
        self._counter.start()
        return self

    def stop(self) -> None:
        """Cease to count.

        Raises:
            RuntimeError: if a dispatch mode that was entered later is still on.
        """
        self._counter.stop()
        for table, name, own in self._replaced:
            if own is None:  # it is the class that is compiled
                table.pop(name, None)
            else:
                table[name] = own
        self._replaced = []

    def result(self) -> FlopCount:
        """What was counted so far.

        Raises:
            ValueError: if nothing was, or a compiled part could not be counted.
        """
        if self._error is not None:
            raise ValueError(f"a compiled part could not be run aside: {self._error!r}") from self._error
        return self._counter.result()

    def _in_place_of(self, compiled: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                # Nothing of ours is there while it compiles or runs: it would be compiled again when it is gone.
                self.stop()
            except RuntimeError as error:  # under somebody's own dispatch mode
                self._error = error
                return compiled(*args, **kwargs)
            output = None
            try:
                if self._error is None:
                    self._count_aside(compiled, module, args, kwargs)
                output = compiled(*args, **kwargs)
            finally:
                self.start()
                self._returned(module, output)
            return output

        return call

    def _count_aside(self, compiled: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> None:
        try:
            with warnings.catch_warnings(), self._unseen(), uncompiled(module):
                warnings.simplefilter("ignore")  # the part says it again when it runs
                for each in module.modules():
                    each._forward_hooks.clear()  # noqa: SLF001 - whoever listens hears each forward once
                    each._forward_pre_hooks.clear()  # noqa: SLF001 - the same
                args, kwargs = tree_map_only(Tensor, torch.clone, (args, kwargs))
                with self._counter:
                    compiled(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is the user's code, and in the middle of a training step
            self._error = error


def _outermost(module: nn.Module, seen: set[nn.Module]) -> Iterator[tuple[nn.Module, str]]:
    """The compiled modules that eager code calls, each with the attribute that holds what is compiled."""
    if module in seen:
        return
    seen.add(module)
    name = compiled_attribute(module)
    if name is not None:
        yield module, name
        return
    for child in module.children():
        yield from _outermost(child, seen)


def _require_countable(model: nn.Module) -> None:
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError(
            "a ScriptModule hides them while it trains; count_flops() counts the model before it is scripted"
        )
    parts = list(_outermost(model, set()))
    inside = [each for part, _ in parts for each in part.modules()]
    if {kind.__name__ for each in inside for kind in type(each).__mro__} & {"FSDPModule", "FullyShardedDataParallel"}:
        raise ValueError("a compiled model hides them while it trains, and a sharded one cannot be run aside")
    redirected = torch.distributed.is_available() and torch.distributed.is_initialized()
    step = getattr(model, "training_step", None)
    # Lightning's strategies for several processes call the training step through the module's forward.
    through_forward = redirected and step is not None and model._compiled_call_impl is not None  # noqa: SLF001
    if hasattr(step, "_torchdynamo_orig_callable") or through_forward:
        raise ValueError(
            "a compiled training step hides them and cannot be run aside; compile the modules in it instead, or count "
            "with count_flops() before training"
        )
