"""Gatherer: everything that hangs on the model, and the sums that it fills between two logging steps."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks import batches
from intensive_callbacks.footprint.cost import TrainingCost
from intensive_callbacks.footprint.speed import Pace
from intensive_callbacks.gathered import Gathered, Window, scalars
from intensive_callbacks.taps import RouterTap, Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle
    from torchmetrics import Metric

    from intensive_callbacks.routing.observer import RouterObserver
    from intensive_callbacks.routing.sample import RouterSample


class Gatherer:
    """Hooks on a model and what they fill.

    Training and validation fill separate windows. What belongs to ``intensive/`` keys comes from the validation where
    there is one, otherwise, as everything else, from training.

    Args:
        model: the model that trains.
        observer: what watches its routers, if anything does.
        taps: each tap with the module, or the names of the routers, it listens to, and its metric.
        num_tokens: tokens of a batch, ``None`` where it has none.
    """

    def __init__(
        self,
        model: nn.Module,
        observer: RouterObserver | None,
        taps: Sequence[tuple[Tap | RouterTap, Any, Metric]],
        num_tokens: Callable[[Any], int | Tensor | None],
    ) -> None:
        self.model, self.observer, self.taps, self.num_tokens = model, observer, taps, num_tokens
        self.hears_routers = any(isinstance(tap, RouterTap) for tap, *_ in taps)
        self.gradient_noise: Metric | None = None
        self._batch: Any = None
        self._validating = False
        self.has_validation = False
        self.has_tokens = False
        self.forward_ends_with_model = True
        self.validation: Window | None = None
        self._training: Window = {}
        self._new: dict[str, int | Tensor] = {"examples": 0, "tokens": 0}
        self._cost = TrainingCost(model, observer.looking_away if observer else nullcontext, self._returned)
        self._pace = Pace(model)
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Register the hooks. Harmless where they are there already."""
        if self._handles:
            return
        if self.observer:
            self.observer.attach()
        if self.observer and self.hears_routers:
            self.observer.on_sample = self._router_decided
        self._handles = [tap.attach(module, metric) for tap, module, metric in self.taps if isinstance(tap, Tap)]
        self._handles.append(self.model.register_forward_hook(self._model_ended, always_call=True))

    def detach(self) -> None:
        """Remove every hook."""
        self._cost.cancel()
        if self.observer:
            self.observer.detach()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def observe(self, batch: Any, *, sampling: bool) -> None:
        """A batch comes; ``sampling`` also takes what is dear of a training batch."""
        if self.hears_routers:
            self._batch = batch
        if self._validating:
            return
        self._sample(sampling, taps=sampling and not self.has_validation)
        self._new["examples"] += batches.num_examples(batch)
        tokens = self.num_tokens(batch)
        if tokens is not None:
            self.has_tokens = True
            self._new["tokens"] = self._new["tokens"] + tokens
        self._cost.begin(batches.shapes(batch), batches.num_positions(batch) or batches.num_examples(batch))

    def _router_decided(self, sample: RouterSample) -> None:
        for tap, layers, metric in self.taps:
            if isinstance(tap, RouterTap) and tap.listening and sample.layer in layers:
                tap.hear(sample, self._batch, metric)

    def _model_ended(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self._returned(module, output)

    def _returned(self, module: nn.Module, output: Any) -> None:
        if self.forward_ends_with_model and module is self.model:
            if output is None:  # it raised
                self._cost.cancel()
            else:
                self._cost.end()

    def begin_backward(self) -> None:
        """What the hooks hear from here on is recomputation."""
        if self.observer:
            self.observer.in_backward = True
        self._cost.end()

    def end_backward(self) -> None:
        """The hooks hear the model again."""
        if self.observer:
            self.observer.in_backward = False

    def begin_validation(self) -> None:
        """What follows fills the validation's window."""
        self.has_validation = self._validating = True
        self._pace.pause()
        self._cost.cancel()
        self._training = self._read()
        if self.observer:
            self.observer.reset()
        self._sample(False, taps=True)

    def end_validation(self, *, keep: bool = True) -> None:
        """Training goes on. The validation's window is kept until it is emptied, or forgotten at once."""
        self._sample(False, taps=False)
        self._validating, self._batch = False, None
        self.validation = self._read() if keep else None
        self._pace.resume()
        if self.observer:
            self.observer.restore(self._training)
        if not keep:
            self._reset_taps()

    def _sample(self, sampling: bool, *, taps: bool) -> None:
        if self.observer:
            self.observer.sampling = sampling
        for tap, *_ in self.taps:
            tap.listening = taps

    def _read(self) -> Window:
        """A copy of the routing sums of every layer."""
        return self.observer.snapshot() if self.observer else {}

    def gather(self, accuracy: float | Tensor | None, num_examples: int | None, *, training: bool) -> Gathered:
        """What this process has, with the training's window where one is due."""
        here = Gathered()
        new = scalars(**self._new, has_tokens=self.has_tokens)
        here.sums |= {f"new/{name}": value for name, value in new.items()}
        here.sums |= {f"cost/{name}": value for name, value in scalars(**self._cost.sums).items()}
        if self._cost.error is not None:
            here.failed["cost"], self._cost.error = self._cost.error, None
        here.add_accuracy(accuracy, num_examples)
        if training:
            here.add_window("training", self._read())
            seconds, joules = self._pace.read()
            bits = 0 if math.isnan(joules) else 8 * _trained_bytes(self.model)
            pace = scalars(processes=1, seconds=seconds, joules=joules, bits=bits)
            here.sums |= {f"pace/{name}": value for name, value in pace.items()}
            if self.gradient_noise is not None:
                here.add_metric("gradients", self.gradient_noise)
        if self.validation is not None:
            here.add_window("validation", self.validation)
        if self.taps_are_due(training=training):
            for index, (tap, _, metric) in enumerate(self.taps):
                here.add_metric(f"tap{index}", metric)
                if tap.error is not None:
                    here.failed[f"tap{index}"] = tap.error
        return here

    def taps_are_due(self, *, training: bool) -> bool:
        """Whether the taps' windows end with this logging step."""
        return bool(self.taps) and (self.validation is not None if self.has_validation else training)

    def empty(self, *, training: bool) -> None:
        """Start the windows anew that have been logged."""
        self._new, self._batch = {"examples": 0, "tokens": 0}, None
        if self.taps_are_due(training=training):
            self._reset_taps()
        if training and self.observer:
            self.observer.reset()
        self.validation = None

    def forget(self) -> None:
        """Empty every window."""
        self.validation = None
        self._pace = Pace(self.model)
        self._cost.forget()
        if self.observer:
            self.observer.reset()
        self._reset_taps()

    def _reset_taps(self) -> None:
        for tap, _, metric in self.taps:
            metric.reset()
            tap.error = None


def _trained_bytes(model: nn.Module) -> int:
    """What an optimizer step overwrites on this process: the trainable parameters, of a sharded one its own shard."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return sum((p.to_local() if hasattr(p, "to_local") else p).nbytes for p in trained)
