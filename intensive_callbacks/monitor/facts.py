"""What is known of a model and of its training so far: what metrics are built from, the same on every process."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from intensive_callbacks.footprint.expert_sizes import ExpertSizes, expert_sizes
from intensive_callbacks.footprint.parameters import count_parameters, sharded_by
from intensive_callbacks.footprint.training_memory import TrainingMemory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from intensive_callbacks.monitor.window import Counts, Window
    from intensive_callbacks.routing.discovery import MoELayer
    from intensive_callbacks.routing.sums import RoutingSums

# The facts that a metric's constructor may require, each with what is to be said where it is not known.
SOURCES = {
    "num_params": "the parameters could not be counted",
    "total_params": "the parameters could not be counted",
    "active_params": "the parameters could not be counted",
    "num_bytes": "the parameters could not be counted",
    "training_bytes": "the memory of training is not known before a torch optimizer has stepped these parameters",
    "num_flops": "no FLOPs of a forward pass were counted; call observe(batch) before each forward pass",
    "num_joules": "no GPU counts energy here; install the extra 'energy' (NVML) where there is one",
    "random_baseline": "the accuracy of chance is not known; pass random_baseline=",
    "num_experts": "there is no router",
    "small_batch_size": "no gradients of two batch sizes were observed",
    "large_batch_size": "no gradients of two batch sizes were observed",
}

NO_EXPERTS = ExpertSizes()


@dataclass(frozen=True)
class ModelFacts:
    """Counts and costs of a model, and what its training has shown so far. Nothing changes it: it is replaced.

    Attributes:
        total_params, active_params, num_bytes: sizes; ``None`` where they could not be counted.
        training_bytes: the most memory that training took so far, as :class:`TrainingMemory` has it.
        num_flops: of one forward pass, per token or example.
        num_joules: of training, per token or example.
        random_baseline: the accuracy of chance.
        small_batch_size, large_batch_size: what gradients were observed of.
        accuracy: the newest one, NaN before the first or where it could not be used.
        num_examples: how many examples it stands for, where that is known.
        seen_examples, seen_tokens: of training, since it began.
        has_tokens: whether batches have tokens.
        curve: pairs (training examples seen, accuracy), as long as every example was new; of very many those whose
            sizes are 1/64 apart.
        data_is_new: whether no training example has been seen twice so far.
        num_windows: windows of training that have ended.
        speed: the newest speed and energy of training, by key.
        energy: the joules of the newest window and the bits it overwrote, where energy is measured.
    """

    total_params: float | None = None
    active_params: float | None = None
    num_bytes: float | None = None
    training_bytes: float | None = None
    num_flops: float | None = None
    num_joules: float | None = None
    random_baseline: float | None = None
    small_batch_size: float | None = None
    large_batch_size: float | None = None
    accuracy: float = math.nan
    num_examples: int | None = None
    seen_examples: float = 0
    seen_tokens: float = 0
    has_tokens: bool = False
    curve: tuple[tuple[float, float], ...] = ()
    data_is_new: bool = False
    num_windows: int = 0
    speed: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] | None = None
    _active_by_design: float | None = None
    _experts: Mapping[str, ExpertSizes] = field(default_factory=dict)
    _spent: Mapping[str, float] = field(default_factory=dict)
    _spent_since: int = 0
    _memory: TrainingMemory | None = field(default=None, compare=False)

    def counted(self, model: nn.Module, layers: Sequence[MoELayer]) -> ModelFacts:
        """With the sizes of a model as it is now."""
        if self.total_params is not None and sharded_by(model):  # counted before it was wrapped
            return self
        with warnings.catch_warnings():
            # A model that does not say how many experts a token gets is measured.
            warnings.filterwarnings("ignore", message=".*does not say how many experts")
            count = count_parameters(model)
        return replace(
            self,
            total_params=count.total,
            active_params=count.active,
            num_bytes=count.num_bytes,
            _active_by_design=count.active,
            _experts=expert_sizes(model, layers),
            _memory=TrainingMemory(model, count.num_bytes),
        )

    def uncounted(self) -> ModelFacts:
        """Without sizes, where those of the model as it is now could not be counted."""
        return replace(
            self,
            total_params=None,
            active_params=None,
            num_bytes=None,
            training_bytes=None,
            _active_by_design=None,
            _memory=None,
        )

    def restarted(self, step: int) -> ModelFacts:
        """Time and energy are counted from this optimizer step on."""
        return replace(self, _spent={}, _spent_since=step)

    def after(self, window: Window, step: int, *, data_is_new: bool) -> ModelFacts:
        """What is known once a logging step's reduced window is taken in."""
        counts, validation = window.counts, window.validation
        spent = {
            name: self._spent.get(name, 0) + getattr(counts, name)
            for name in ("examples", "tokens", "seconds", "joules")
        }
        facts = replace(
            self,
            seen_examples=self.seen_examples + counts.examples,
            seen_tokens=self.seen_tokens + counts.tokens,
            has_tokens=self.has_tokens or counts.has_tokens > 0,
            num_flops=counts.flops / counts.positions if counts.flops > 0 else self.num_flops,
            active_params=self._active_params(validation if validation and validation.num_tokens else window.training),
            training_bytes=self._training_bytes(step, is_due=window.is_due),
            data_is_new=data_is_new,
            _spent=spent,
        )
        if window.quality.weight or window.quality.unusable:
            newest = facts.seen_examples, window.quality.accuracy
            curve = _thinned((*self.curve, newest)) if data_is_new else self.curve
            facts = replace(
                facts, accuracy=window.quality.accuracy, num_examples=window.quality.num_examples, curve=curve
            )
        return facts.with_speed(counts, step) if window.is_due else facts

    def _active_params(self, routing: RoutingSums | None) -> float | None:
        """Mean parameters that a token uses: as counted, with each observed layer's experts weighted by their load."""
        # An evaluation that did not run the model says nothing of it.
        if not routing or not routing.num_tokens or self._active_by_design is None:
            return self.active_params
        active = self._active_by_design
        for group in routing.groups:
            states = group.states()
            tokens, loads = states["num_tokens"].tolist(), states["load"].tolist()
            for place, name in enumerate(group.layers):
                experts = self._experts.get(name, NO_EXPERTS)
                if tokens[place] > 0:
                    active += experts.used(loads[place], tokens[place]) - experts.by_design
        return active

    def _training_bytes(self, step: int, *, is_due: bool) -> float | None:
        # Before the first step an optimizer has no states.
        if self._memory is None or step == 0 or not (is_due or self.training_bytes is None):
            return self.training_bytes
        return self._memory.num_bytes()

    def with_speed(self, counts: Counts, step: int) -> ModelFacts:
        """Speed and energy of the window of training that ends with this step."""
        per = self.per
        count, seconds, joules = (self._spent.get(name, 0) for name in (f"{per}s", "seconds", "joules"))
        num_steps = step - self._spent_since
        facts = replace(self.restarted(step), speed={}, energy=None, num_windows=self.num_windows + 1)
        if count == 0 or seconds == 0:
            return facts
        speed = {f"cost/{per}s_per_second": count / (seconds / max(counts.processes, 1))}
        if not joules > 0:
            return replace(facts, speed=speed)
        speed[f"cost/joules_per_{per}"] = joules / count
        energy = {"joules": joules, "bits_erased": counts.bits * num_steps}
        return replace(facts, speed=speed, num_joules=joules / count, energy=energy)

    @property
    def per(self) -> Any:
        """What FLOPs are counted for: ``"token"`` or ``"example"``."""
        return "token" if self.has_tokens else "example"

    @cached_property
    def by_argument(self) -> dict[str, float]:
        """The facts that are known, by the name of the constructor's argument that takes them."""
        known = {name: getattr(self, name) for name in SOURCES if hasattr(self, name)}
        known["num_params"] = self.active_params
        return {name: value for name, value in known.items() if value is not None}

    def baseline(self) -> dict[str, float]:
        """What is known before the first optimizer step, by key."""
        known = {
            "random_accuracy": self.random_baseline,
            "total_params": self.total_params,
            "active_params": self.active_params,
            "num_bytes": self.num_bytes,
            f"flops_per_{self.per}": self.num_flops,
        }
        return {f"baseline/{name}": float(value) for name, value in known.items() if value is not None}

    def costs(self) -> dict[str, float]:
        """What training costs, by key: speed and energy of the newest window, and the memory so far."""
        memory = {} if self.training_bytes is None else {"cost/peak_memory": float(self.training_bytes)}
        return {**self.speed, **memory}

    def row(self) -> dict[str, Any]:
        """The figures of this model in the final table."""
        names = (
            "total_params",
            "active_params",
            "num_bytes",
            "num_flops",
            "random_baseline",
            "accuracy",
            "num_examples",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "num_tokens": self.seen_tokens or None,
            "per": self.per,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on: plain numbers and lists."""
        saved = {name: getattr(self, name) for name in SAVED}
        return {**saved, "curve": [list(pair) for pair in self.curve], "_spent": dict(self._spent)}

    def restored(self, state: Mapping[str, Any]) -> ModelFacts:
        """With what a checkpoint saved; what it does not have begins anew, what is not known is ignored."""
        known = {name: value for name, value in state.items() if name in SAVED}
        if "curve" in known:
            known["curve"] = tuple((float(size), float(accuracy)) for size, accuracy in known["curve"])
        if known.get("random_baseline") is None:
            known.pop("random_baseline", None)
        if known.get("total_params") != self.total_params:  # the model has other sizes now
            known.pop("active_params", None)
        known.pop("total_params", None)
        return replace(self, **known)


SAVED = (
    "total_params",
    "active_params",
    "num_flops",
    "num_joules",
    "random_baseline",
    "small_batch_size",
    "large_batch_size",
    "accuracy",
    "num_examples",
    "seen_examples",
    "seen_tokens",
    "has_tokens",
    "curve",
    "num_windows",
    "_spent",
    "_spent_since",
)


MAX_PAIRS = 2048  # of a learning curve


def _thinned(curve: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """A learning curve of bounded length, in even steps of the logarithm, the newest pair among them."""
    if len(curve) <= MAX_PAIRS:
        return curve
    kept = [curve[0]]
    for pair in curve[1:-1]:
        if pair[0] >= kept[-1][0] * (1 + 1 / 64):
            kept.append(pair)
    return (*kept, curve[-1])
