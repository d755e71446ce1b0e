"""Collector: the hooks on a model, and what they accumulate between two logging steps."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.boundary import Hook
from intensive_callbacks.footprint.cost import TrainingCost
from intensive_callbacks.footprint.flop_counter import compiled_attribute
from intensive_callbacks.footprint.speed import Pace
from intensive_callbacks.monitor import batches
from intensive_callbacks.monitor.packing import pack, unpack
from intensive_callbacks.monitor.phase import Phase
from intensive_callbacks.monitor.window import UNKNOWN, Counts, Quality, Window
from intensive_callbacks.routing.sums import RoutingSums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.monitor.counting import BatchCounter
    from intensive_callbacks.monitor.feeds import Feeds
    from intensive_callbacks.routing.observer import RouterObserver


class Collector:
    """Hooks on a model and the sums that they fill.

    Training and validation fill separate windows. What belongs to ``intensive/`` keys comes from the validation where
    there is one, otherwise, as everything else, from training.

    Args:
        model: the model that trains.
        observer: what observes its routers, if anything does.
        feeds: the metrics that are fed as the model runs.
        counter: counts the examples and tokens of a batch.
        mask: the user's mask of a batch's real tokens; ``None`` to read it from the batch and the model's inputs.
        boundary: what exceptions are reported to.
    """

    def __init__(
        self,
        model: nn.Module,
        observer: RouterObserver | None,
        feeds: Feeds,
        counter: BatchCounter,
        *,
        mask: Callable[[Any], Tensor | None] | None,
        boundary: Boundary,
    ) -> None:
        self.model, self.observer, self.feeds, self.boundary = model, observer, feeds, boundary
        self.phase = Phase.FORWARD
        self.validates = False  # whether this training has validations
        self._counter, self._mask = counter, mask
        self._open = _OpenCounts()
        self._has_early_scores = False
        self._training: RoutingSums | None = None  # set aside while a validation runs
        self._validation: RoutingSums | None = None  # of a validation that ended and was not logged yet
        self._forward_begin: RemovableHandle | None = None
        self._forward_end: RemovableHandle | None = None
        self._calls_begin_backward = False
        self._cost: TrainingCost | None = None
        self._uncounted: tuple[Any, int] | None = None  # the batch whose forward pass is to come
        self._pace: Pace | None = None
        # Costs that a checkpoint had, and time and energy that were read and are not logged yet.
        self._carried = _NOTHING_CARRIED

    def expect_validation(self, *, expected: bool) -> None:
        """Declare whether the training has validations, here or on another process: taps then wait for them."""
        self.validates = expected

    @property
    def is_attached(self) -> bool:
        """Whether the hooks are registered."""
        return self._forward_end is not None

    def attach(self, *, calls_begin_backward: bool = False) -> None:
        """Register the hooks; a second call does nothing.

        Args:
            calls_begin_backward: whether the loop calls :meth:`begin_backward`; otherwise a forward pass is over when
                the model returns.
        """
        if self.is_attached:
            return
        self._calls_begin_backward = calls_begin_backward
        begin, end = (
            Hook(self.boundary.call, "counting the FLOPs", each, off=self._give_up_on_flops)
            for each in (self._model_called, self._model_returned)
        )
        self._forward_begin = self.model.register_forward_pre_hook(begin)
        self._forward_end = self.model.register_forward_hook(end, always_call=True)
        if self.observer:
            self.boundary.call("observing the routers", self.observer.attach, off=self.observer.detach)
        self.feeds.attach(self.observer)
        paused = self.observer.paused if self.observer else nullcontext
        cost = TrainingCost, self.model, paused, self._forward_ended, self.boundary
        self._cost = self.boundary.call("counting the FLOPs", *cost)
        self.start_clock()

    def start_clock(self) -> None:
        """Measure time and energy from here on."""
        self._pace = self.boundary.call("measuring time and energy", Pace, self.model, boundary=self.boundary)

    def detach(self) -> None:
        """Remove every hook."""
        self._stop_counting_flops()
        for hook in (self._forward_begin, self._forward_end):
            if hook is not None:
                hook.remove()
        self._forward_begin = self._forward_end = None
        self.feeds.detach()
        if self.observer:
            self.observer.detach()

    def begin_batch(self, batch: Any, *, sampling: bool, early: bool = False, parts: Sequence[Any] = ()) -> None:
        """Record a batch before its forward pass.

        Args:
            batch: what the loop gave.
            sampling: whether to collect the expensive statistics, too.
            early: whether to collect them only in case that the training ends before any values are due.
            parts: the batches in it where several loaders gave one each.
        """
        self.feeds.see(batch)
        mask = self._mask_of(batch)
        if self.phase is Phase.VALIDATION:
            return
        self.phase = Phase.FORWARD
        if sampling and self._has_early_scores and self.observer:
            self.observer.forget_scores()
        self._has_early_scores = early or (self._has_early_scores and not sampling)
        sampling = sampling or early
        self._sample(sampling, feeds=sampling and not self.validates)
        count = self._counter.count(batch, parts, mask)
        self._open.add(count.examples, count.tokens)
        self._uncounted = batches.shapes(batch), count.positions
        # The hooks of a model that is compiled as a whole are compiled with it.
        if self._calls_begin_backward or compiled_attribute(self.model) is not None:
            self._begin_counting()

    def _begin_counting(self) -> None:
        batch, self._uncounted = self._uncounted, None
        if self._cost is not None and batch is not None:
            self._cost.begin(*batch)

    def _mask_of(self, batch: Any) -> Tensor | None:
        """The user's mask of the real tokens, which the routers of the coming forward are to leave out, too."""
        if self._mask is None:
            return None
        mask = self.boundary.call("mask", self._mask, batch, off=self._give_up_on_masks)
        if self.observer:
            self.observer.switch(mask=mask)
        return mask

    def _give_up_on_masks(self) -> None:
        self._mask = None

    def _give_up_on_flops(self) -> None:
        self._stop_counting_flops()
        self._cost = None

    def _stop_counting_flops(self) -> None:
        if self._cost is not None:
            self.boundary.call("counting the FLOPs", self._cost.cancel)

    def _model_called(self, *_: Any) -> None:
        """Count a batch from here on where only the model's return tells the end.

        What ``torch.compile(model)`` returned, called in place of the model, never comes here: the counter would
        still run in its backward pass.
        """
        if not torch.compiler.is_compiling() and not self._calls_begin_backward:
            self._begin_counting()

    def _model_returned(self, model: nn.Module, _inputs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self._forward_ended(model, output)

    def _forward_ended(self, module: nn.Module, output: Any) -> None:
        if self._cost is None or module is not self.model or self._calls_begin_backward:
            return
        end = self._cost.cancel if output is None else self._cost.end  # without an output it raised
        self.boundary.call("counting the FLOPs", end, off=self._give_up_on_flops)

    def begin_backward(self) -> None:
        """Hooks that fire from here on belong to activation recomputation and are ignored."""
        if self.phase is Phase.VALIDATION:
            return
        self.phase = Phase.BACKWARD
        if self.observer:
            self.observer.switch(in_backward=True)
        if self._cost is not None and self._cost.is_counting:
            self.boundary.call("counting the FLOPs", self._cost.end, off=self._give_up_on_flops)

    def end_backward(self) -> None:
        """Hooks belong to forward passes again."""
        if self.phase is Phase.BACKWARD:
            self.phase = Phase.FORWARD
        if self.observer:
            self.observer.switch(in_backward=False)

    def begin_validation(self) -> None:
        """Fill the validation's window from here on."""
        self.phase, self.validates = Phase.VALIDATION, True
        if self._validation is not None:  # it was not logged, and this one takes its place
            self.feeds.reset_taps()
        self._carry_clock()
        self._stop_counting_flops()
        self._training = self._read()
        if self.observer:
            self.observer.reset()
        self._sample(False, feeds=True)

    def end_validation(self, *, keep: bool = True) -> None:
        """Fill the training's window again; the validation's is kept until it is closed, or dropped at once."""
        if self.phase is not Phase.VALIDATION:
            return
        self.phase = Phase.FORWARD
        self._sample(False, feeds=False)
        self._validation = self._read() if keep else None
        if self._pace is not None:  # the validation's time is dropped
            self.boundary.call("measuring time and energy", self._pace.reset, off=self._stop_clock)
        if self.observer and self._training:
            self.observer.restore(self._training)
        self._training = None
        if not keep:
            self.feeds.reset()

    def _stop_clock(self) -> None:
        self._pace = None

    def _sample(self, sampling: bool, *, feeds: bool) -> None:
        if self.observer and self.observer.sampling != sampling:
            self.observer.switch(sampling=sampling)
        self.feeds.listen(feeds)

    def _read(self) -> RoutingSums:
        """A copy of the routing sums of every layer."""
        return self.observer.read() if self.observer else RoutingSums.of({})

    @property
    def has_ended_validation(self) -> bool:
        """Whether a validation has ended that was not logged yet."""
        return self._validation is not None

    def close(self, quality: Quality, *, due: bool, first: bool = False, routing: bool = True) -> Window:
        """What this process has seen since the last logging step; the windows that end with it begin anew.

        A part that cannot be read is named in the window's ``failed``, and the others are in it all the same: other
        processes wait for them.

        Args:
            quality: the accuracy that came with this step.
            due: whether the training window ends.
            first: read the training window without ending it: for the first values of a run.
            routing: whether the routing of a training window that ends, or is read, is taken.
        """
        ends_taps = self._validation is not None if self.validates else due
        call = self.boundary.call
        fed = call("the metrics fed by taps", self.feeds.close, taps=ends_taps, steps=due)
        counts = call("counting the batches", self._counts, clock=due or first)
        layout = call("reading the routers", self._read)
        validation, self._validation = self._validation, None
        if due and self.observer:
            call("reading the routers", self.observer.reset)
        sums, samples, failed = fed or ({}, {}, self.feeds.names)
        unread = {
            *(["counts"] if counts is None else []),
            *(["training", "validation"] if ROUTERS & self.boundary.failed.keys() else []),
        }
        return Window(
            is_due=due,
            is_first=first,
            validates=self.validates,
            quality=quality,
            counts=counts or UNKNOWN,
            training=layout if routing and (due or first) else None,
            validation=validation,
            sums=sums,
            samples=samples,
            failed=failed | unread,
            layout=layout,
        )

    def _counts(self, *, clock: bool) -> Counts:
        examples, tokens, has_tokens = self._open.take()
        costs = self._costs()
        counts = Counts(examples, tokens, has_tokens, costs["flops"], costs["positions"])
        if not clock:
            return counts
        self._carry_clock()
        if self._pace is None:  # the joules of the others are not those of the training
            return replace(counts, joules=math.nan)
        seconds, joules = self._carried["seconds"], self._carried["joules"]
        self._carried = {**self._carried, "seconds": 0.0, "joules": 0.0}
        bits = 0 if math.isnan(joules) else 8 * _trained_bytes(self.model)
        return replace(counts, processes=1, seconds=seconds, joules=joules, bits=bits)

    def _costs(self) -> dict[str, float]:
        """FLOPs of the training so far and the positions that they were for."""
        sums = self._cost.sums if self._cost is not None else {"flops": 0, "positions": 0}
        return {name: number + self._carried[name] for name, number in sums.items()}

    def _carry_clock(self) -> None:
        """Add the time and energy since the last reading to what is carried."""
        if self._pace is None:
            return
        read = self.boundary.call("measuring time and energy", self._pace.read, off=self._stop_clock)
        seconds, joules = read or (0.0, math.nan)
        carried = {"seconds": self._carried["seconds"] + seconds, "joules": self._carried["joules"] + joules}
        self._carried = {**self._carried, **carried}

    def commit_batches(self) -> None:
        """The batches so far are trained on: a checkpoint counts them, and not one that is interrupted."""
        self._open.commit()

    def state_dict(self) -> dict[str, Any]:
        """The open windows, on this process: plain numbers and tensors."""
        validates = self.phase is Phase.VALIDATION
        if not validates:
            self._carry_clock()
        training = self._training if validates and self._training else self._read()
        return {
            "counts": self._open.committed(),
            "costs": {**self._carried, **self._costs()},
            "routing": {"layers": list(training.layers), "sums": pack(training.packed())},
            "feeds": self.feeds.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the open windows; one of other layers begins anew."""
        self._validation = self._training = None
        self._open = _OpenCounts(**state.get("counts", {}))
        if self._cost is not None:
            self.boundary.call("counting the FLOPs", self._cost.restart)
        self._carried = {**_NOTHING_CARRIED, **state.get("costs", {})}
        self.start_clock()
        self.feeds.load_state_dict(state.get("feeds", {}))
        if self.observer:
            empty, saved = self._read(), state.get("routing", {})
            self.observer.reset()
            if list(empty.layers) == saved.get("layers"):
                sums, shape = saved["sums"], empty.packed().shape
                self.observer.restore(
                    empty.with_packed(unpack(sums, shape) if sums.dtype == torch.uint8 else sums.double())
                )

    def restart(self) -> None:
        """Empty every window and start the clock."""
        self._validation = self._training = None
        self._open, self._carried = _OpenCounts(), _NOTHING_CARRIED
        self.start_clock()
        if self._cost is not None:
            self.boundary.call("counting the FLOPs", self._cost.restart)
        if self.observer:
            self.observer.reset()
        self.feeds.reset()


# Parts whose failure leaves routing unread on this process.
ROUTERS = {"finding the routers", "observing the routers", "reading the routers"}
_NOTHING_CARRIED = {"flops": 0.0, "positions": 0.0, "seconds": 0.0, "joules": 0.0}


class _OpenCounts:
    """Examples and tokens of the batches since the last logging step."""

    def __init__(self, examples: int = 0, tokens: int = 0, has_tokens: bool = False) -> None:
        self._examples, self._has_tokens = examples, has_tokens
        self._tokens: int | Tensor = tokens
        self.commit()

    def add(self, num_examples: int, num_tokens: int | Tensor | None) -> None:
        self._examples += num_examples
        if num_tokens is not None:
            self._has_tokens = True
            self._tokens = self._tokens + num_tokens

    def commit(self) -> None:
        self._committed = self._examples, self._tokens

    def committed(self) -> dict[str, Any]:
        """What was added before the last ``commit``."""
        examples, tokens = self._committed
        return {"examples": examples, "tokens": int(tokens), "has_tokens": self._has_tokens}

    def take(self) -> tuple[int, int, bool]:
        """Examples, tokens, and whether there are any tokens; the two begin anew."""
        examples, tokens = self._examples, int(self._tokens)
        self._examples, self._tokens = 0, 0
        self.commit()
        return examples, tokens, self._has_tokens


def _trained_bytes(model: nn.Module) -> int:
    """What an optimizer step overwrites on this process: the trainable parameters, of a sharded one its own shard."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return sum((p.to_local() if hasattr(p, "to_local") else p).nbytes for p in trained)
