"""Count the FLOPs of a training forward pass; its compiled parts run once more, uncompiled."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_map_only

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.footprint.counting_mode import COUNTING
from intensive_callbacks.footprint.flop_counter import FlopCount, FlopCounter, compiled_attribute
from intensive_callbacks.footprint.preserve import uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self


class TrainingFlopCounter:
    """Counts the FLOPs of a forward pass during training and leaves the training bit-identical, compiled or not.

    Eager code is counted by a :class:`FlopCounter`. A compiled part must not run under one, which would change its
    rounding: while it runs the counter is off. Before that the part runs once uncompiled, without gradients and
    without hooks, on copies of its inputs. Of nested compiled parts only the outermost is handled this way.

    Args:
        model: the model that trains.
        paused: makes a context in which observers of the training ignore what runs.
        returned: called with each compiled part that has run and its output, ``None`` where it raised.
        boundary: where failures are reported; by default one of its own, which warns.

    Attributes:
        parts: the compiled modules, each with the attribute that holds what is compiled.

    Raises:
        ValueError: if something in the model can neither be counted as it runs nor be run once more.
    """

    def __init__(
        self,
        model: nn.Module,
        paused: Callable[[], AbstractContextManager[object]] = nullcontext,
        returned: Callable[[nn.Module, Any], None] = lambda _module, _output: None,
        boundary: Boundary | None = None,
    ) -> None:
        _require_countable(model)
        self.parts = list(_outermost(model, set()))
        self._paused, self._returned = paused, returned
        self._boundary = boundary or Boundary()
        self._counter = FlopCounter(boundary=self._boundary)
        self._replaced = ExitStack()

    def start(self) -> Self:
        """Start counting."""
        for module, name in self.parts:
            self._replace(module, name)
        self._counter.start()
        return self

    def _replace(self, module: nn.Module, name: str) -> None:
        table = vars(module)
        if name in table:
            self._replaced.callback(table.__setitem__, name, table[name])
        else:  # it is the class that is compiled
            self._replaced.callback(table.pop, name, None)
        table[name] = self._in_place_of(getattr(module, name), module)

    def stop(self) -> None:
        """Stop counting.

        Raises:
            RuntimeError: if a dispatch mode that was entered later is still on.
        """
        self._counter.stop()
        self._replaced.close()

    def abandon(self) -> bool:
        """Remove what is in place after a failure, without the parts that may have failed.

        Returns:
            Whether all of it is gone: a dispatch mode cannot be left below another one. It counts nothing then; call
            this again later.
        """
        self._replaced.close()
        self._counter.mode.stop_counting()
        if self._counter.mode in _get_current_dispatch_mode_stack()[:-1]:
            return False
        self._counter.installed.close()
        return True

    def result(self) -> FlopCount:
        """What was counted so far.

        Raises:
            ValueError: if nothing was, or counting failed, as where a compiled part cannot run uncompiled.
        """
        return self._counter.result()

    def _in_place_of(self, compiled: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # Nothing of ours may be in place while it compiles or runs: it would compile again without it.
            self._boundary.call(COUNTING, self._before, compiled, module, args, kwargs, off=self.abandon)
            output = None
            try:
                output = compiled(*args, **kwargs)
            finally:
                self._boundary.call(COUNTING, self._after, module, output, off=self.abandon)
            return output

        return call

    def _before(self, compiled: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> None:
        self.stop()
        if COUNTING not in self._boundary.failed:
            self._count_uncompiled(compiled, module, args, kwargs)

    def _after(self, module: nn.Module, output: Any) -> None:
        if COUNTING not in self._boundary.failed:
            self.start()
        self._returned(module, output)

    def _count_uncompiled(self, compiled: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> None:
        try:
            with warnings.catch_warnings(), self._paused(), uncompiled(module):
                warnings.simplefilter("ignore")  # the part warns again when it runs compiled
                for each in module.modules():
                    each._forward_hooks.clear()  # noqa: SLF001 - each forward pass fires hooks once
                    each._forward_pre_hooks.clear()  # noqa: SLF001 - the same
                args, kwargs = tree_map_only(Tensor, torch.clone, (args, kwargs))
                with self._counter:
                    compiled(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"a compiled part could not be run uncompiled: {error!r}") from error


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
        raise ValueError("a compiled model hides them while it trains, and a sharded one cannot be run uncompiled")
    redirected = torch.distributed.is_available() and torch.distributed.is_initialized()
    step = getattr(model, "training_step", None)
    # Lightning's strategies for several processes call the training step through the module's forward.
    through_forward = redirected and step is not None and model._compiled_call_impl is not None  # noqa: SLF001
    if hasattr(step, "_torchdynamo_orig_callable") or through_forward:
        raise ValueError(
            "a compiled training step hides them and cannot be run uncompiled; compile the modules in it instead, or "
            "count with count_flops() before training"
        )
