"""Collector: the hooks on a model, and what they accumulate between two logging steps."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.boundary import Hook
from intensive_callbacks.footprint.cost import TrainingCost
from intensive_callbacks.footprint.speed import Pace
from intensive_callbacks.monitor import batches
from intensive_callbacks.monitor.phase import Phase
from intensive_callbacks.monitor.window import Counts, Quality, Window
from intensive_callbacks.routing.sums import RoutingSums

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from intensive_callbacks.boundary import Boundary
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
        num_tokens: the user's number of tokens of a batch; ``None`` to count them.
        mask: the user's mask of a batch's real tokens; ``None`` to read it from the batch and the model's inputs.
        boundary: what exceptions are reported to.
    """

    def __init__(
        self,
        model: nn.Module,
        observer: RouterObserver | None,
        feeds: Feeds,
        num_tokens: Callable[[Any], int | Tensor | None] | None,
        mask: Callable[[Any], Tensor | None] | None,
        boundary: Boundary,
    ) -> None:
        self.model, self.observer, self.feeds, self.boundary = model, observer, feeds, boundary
        self.phase = Phase.FORWARD
        self.validates = False  # whether this training has validations
        self._num_tokens, self._mask = num_tokens, mask
        self._counts_tokens = True
        self._open = _OpenCounts()
        self._training: RoutingSums | None = None  # set aside while a validation runs
        self._validation: RoutingSums | None = None  # of a validation that ended and was not logged yet
        self._forward_end: RemovableHandle | None = None
        self._announces_backward = False
        self._cost: TrainingCost | None = None
        self._pace: Pace | None = None

    def expect_validation(self, *, expected: bool) -> None:
        """Say beforehand whether the training has validations: taps then wait for them."""
        self.validates = expected

    @property
    def is_attached(self) -> bool:
        """Whether the hooks are registered."""
        return self._forward_end is not None

    def attach(self, *, announces_backward: bool = False) -> None:
        """Register the hooks; twice is once.

        Args:
            announces_backward: whether the loop calls :meth:`begin_backward`; otherwise a forward pass is over when the
                model returns.
        """
        if self.is_attached:
            return
        self._announces_backward = announces_backward
        hook = Hook(self.boundary.call, "counting the FLOPs", self._model_returned, off=self._give_up_on_flops)
        self._forward_end = self.model.register_forward_hook(hook, always_call=True)
        if self.observer:
            self.boundary.call("observing the routers", self.observer.attach, off=self.observer.detach)
        self.feeds.attach(self.observer)
        paused = self.observer.paused if self.observer else nullcontext
        cost = TrainingCost, self.model, paused, self._forward_ended, self.boundary
        self._cost = self.boundary.call("counting the FLOPs", *cost)
        self._start_clock()

    def _start_clock(self) -> None:
        self._pace = self.boundary.call("measuring time and energy", Pace, self.model, boundary=self.boundary)

    def detach(self) -> None:
        """Remove every hook."""
        self._stop_counting_flops()
        if self._forward_end is not None:
            self._forward_end.remove()
            self._forward_end = None
        self.feeds.detach()
        if self.observer:
            self.observer.detach()

    def begin_batch(self, batch: Any, *, sampling: bool) -> None:
        """Record a batch before its forward pass; if ``sampling``, also collect the expensive statistics."""
        self.feeds.see(batch)
        mask = self._mask_of(batch)
        if self.phase is Phase.VALIDATION:
            return
        self.phase = Phase.FORWARD
        self._sample(sampling, feeds=sampling and not self.validates)
        num_examples, num_tokens = batches.num_examples(batch), self._tokens_of(batch, mask)
        self._open.add(num_examples, num_tokens)
        if self._cost is not None:
            # What a user counts as tokens is what FLOPs are then counted for; a tensor is not waited for.
            positions = batches.num_positions(batch) or (num_tokens if isinstance(num_tokens, int) else 0)
            self._cost.begin(batches.shapes(batch), positions or num_examples)

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

    def _tokens_of(self, batch: Any, mask: Tensor | None) -> int | Tensor | None:
        if not self._counts_tokens:
            return None
        count = self._num_tokens or partial(batches.num_tokens, mask=mask)
        return self.boundary.call("num_tokens", _number, count, batch, off=self._give_up_on_tokens)

    def _give_up_on_tokens(self) -> None:
        self._counts_tokens = False

    def _give_up_on_flops(self) -> None:
        self._stop_counting_flops()
        self._cost = None

    def _stop_counting_flops(self) -> None:
        if self._cost is not None:
            self.boundary.call("counting the FLOPs", self._cost.cancel)

    def _model_returned(self, model: nn.Module, _inputs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self._forward_ended(model, output)

    def _forward_ended(self, module: nn.Module, output: Any) -> None:
        if self._cost is None or module is not self.model or self._announces_backward:
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
        if self._pace is not None:
            self.boundary.call("measuring time and energy", self._pace.pause, off=self._stop_clock)
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
        if self._pace is not None:
            self.boundary.call("measuring time and energy", self._pace.resume, off=self._stop_clock)
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

        Args:
            quality: the accuracy that came with this step.
            due: whether the training window ends.
            first: read the training window without ending it: for the first values of a run.
            routing: whether the routing of a training window that ends, or is read, is taken.
        """
        ends_taps = self._validation is not None if self.validates else due
        sums, samples, failed = self.feeds.close(taps=ends_taps, steps=due)
        window = Window(
            is_due=due,
            is_first=first,
            validates=self.validates,
            quality=quality,
            counts=self._counts(clock=due or first),
            training=self._read() if routing and (due or first) else None,
            validation=self._validation,
            sums=sums,
            samples=samples,
            failed=failed,
        )
        self._validation = None
        if due and self.observer:
            self.observer.reset()
        return window

    def _counts(self, *, clock: bool) -> Counts:
        examples, tokens, has_tokens = self._open.take()
        flops = self._cost.sums if self._cost is not None else {"flops": 0, "positions": 0}
        counts = Counts(examples, tokens, has_tokens, flops["flops"], flops["positions"])
        if not clock or self._pace is None:
            return counts
        read = self.boundary.call("measuring time and energy", self._pace.read, off=self._stop_clock)
        seconds, joules = read or (0.0, math.nan)
        bits = 0 if math.isnan(joules) else 8 * _trained_bytes(self.model)
        return replace(counts, processes=1, seconds=seconds, joules=joules, bits=bits)

    def open_counts(self) -> tuple[int, int]:
        """Examples and tokens of the batches since the last logging step, on this process."""
        return self._open.peek()

    def restart(self) -> None:
        """Empty every window and start the clock."""
        self._validation = self._training = None
        self._open = _OpenCounts()
        self._start_clock()
        if self._cost is not None:
            self.boundary.call("counting the FLOPs", self._cost.restart)
        if self.observer:
            self.observer.reset()
        self.feeds.reset()


class _OpenCounts:
    """Examples and tokens of the batches since the last logging step."""

    def __init__(self) -> None:
        self._examples, self._has_tokens = 0, False
        self._tokens: int | Tensor = 0

    def add(self, num_examples: int, num_tokens: int | Tensor | None) -> None:
        self._examples += num_examples
        if num_tokens is not None:
            self._has_tokens = True
            self._tokens = self._tokens + num_tokens

    def peek(self) -> tuple[int, int]:
        """Examples and tokens so far."""
        return self._examples, int(self._tokens)

    def take(self) -> tuple[int, int, bool]:
        """Examples, tokens, and whether there are any tokens; the two begin anew."""
        examples, tokens = self._examples, int(self._tokens)
        self._examples, self._tokens = 0, 0
        return examples, tokens, self._has_tokens


def _number(num_tokens: Callable[[Any], Any], batch: Any) -> int | Tensor | None:
    """The number of tokens that a function gives, which must be one number."""
    number = num_tokens(batch)
    if isinstance(number, torch.Tensor) and number.numel() != 1:
        raise ValueError(f"num_tokens must give one number, got a tensor of shape {list(number.shape)}")
    return number.reshape(()) if isinstance(number, torch.Tensor) else number


def _trained_bytes(model: nn.Module) -> int:
    """What an optimizer step overwrites on this process: the trainable parameters, of a sharded one its own shard."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return sum((p.to_local() if hasattr(p, "to_local") else p).nbytes for p in trained)
