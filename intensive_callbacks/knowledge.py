"""What a Monitor knows: facts that metrics are built from, and signals that they are fed with."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from intensive_callbacks.footprint.parameters import count_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intensive_callbacks.gathered import Gathered, Window
    from intensive_callbacks.routing.discovery import MoELayer
    from intensive_callbacks.values import Values


class Knowledge:
    """Counts and costs of a model, and what a run has shown so far, the same on every process.

    Attributes:
        facts: ``total_params``, ``active_params``, ``num_params`` (the active ones), ``num_bytes``, ``num_flops``,
            ``num_joules`` (per token or example) and ``random_baseline``, as far as they are known.
        pace: the newest speed and energy of training, under their keys.
        accuracy: the newest one, NaN before.
        num_examples: how many examples it stands for, if that is known.
        data_is_new: whether no training example has been seen twice so far.
    """

    def __init__(self, random_baseline: float | None) -> None:
        self.facts: dict[str, float] = {}
        if random_baseline is not None:
            self.facts["random_baseline"] = random_baseline
        self.accuracy = math.nan
        self.num_examples: int | None = None
        self.has_tokens = False
        self.data_is_new = False
        self.pace: Values = {}
        self._seen = {"examples": 0, "tokens": 0}
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._paced_from = 0
        self._energy: dict[str, float] | None = None
        self._curve: list[tuple[float, float]] = []

    def count(self, model: nn.Module) -> None:
        """Take up the counts that a model's structure shows."""
        with warnings.catch_warnings():
            # A model that does not say how many experts a token gets is measured.
            warnings.filterwarnings("ignore", message=".*does not say how many experts")
            count = count_parameters(model)
        self.facts |= {"total_params": count.total, "num_bytes": count.num_bytes}
        self._know_active(count.active)

    def _know_active(self, active_params: float) -> None:
        self.facts |= {"active_params": active_params, "num_params": active_params}

    def begin_pace(self, step: int) -> None:
        """Time and energy are counted from this optimizer step on."""
        self._spent, self._paced_from = defaultdict(float), step

    def learn(self, gathered: Gathered, layers: Sequence[MoELayer]) -> None:
        """Take up what the reduced sums say: examples seen, the cost of a forward pass, the active share, accuracy."""
        for name in self._seen:
            self._seen[name] += int(gathered.number(f"new/{name}"))
            self._spent[name] += gathered.number(f"new/{name}")
        for name in ("seconds", "joules"):
            if f"pace/{name}" in gathered.sums:
                self._spent[name] += gathered.number(f"pace/{name}")
        self.has_tokens = self.has_tokens or gathered.number("new/has_tokens") > 0
        if gathered.number("cost/flops") > 0:
            self.facts["num_flops"] = gathered.number("cost/flops") / gathered.number("cost/positions")
        window = gathered.window("validation") or gathered.window("training")
        if window and "total_params" in self.facts:
            self._know_active(self.facts["total_params"] - sum(_idle(layer, window) for layer in layers))
        weight = gathered.number("accuracy/weight")
        if weight > 0:
            self.accuracy = gathered.number("accuracy/correct") / weight
            self.num_examples = int(weight) if gathered.number("accuracy/uncounted") == 0 else None
            if self.data_is_new:
                self._curve.append((self._seen["examples"], self.accuracy))

    def take_pace(self, gathered: Gathered, step: int) -> None:
        """Form speed and energy of the window of training that ends with this step."""
        count, seconds, joules = (self._spent[name] for name in (f"{self.per}s", "seconds", "joules"))
        num_steps = step - self._paced_from
        self.begin_pace(step)
        self.pace, self._energy = {}, None
        if count == 0 or seconds == 0:
            return
        known = {f"cost/{self.per}s_per_second": count / (seconds / gathered.number("pace/processes"))}
        if joules > 0:
            self.facts["num_joules"] = known[f"cost/joules_per_{self.per}"] = joules / count
            self._energy = {"joules": joules, "bits_erased": gathered.number("pace/bits") * num_steps}
        self.pace = {key: torch.tensor(value, dtype=torch.float64) for key, value in known.items()}

    def signals(self, fed_by: str | None, gathered: Gathered, *, due: bool) -> dict[str, Any] | None:
        """What a metric's update may take at this logging step; ``None`` where there is nothing new."""
        if fed_by == "tokens":
            return {"num_tokens": self._seen["tokens"]} if due and self.has_tokens else None
        if fed_by == "energy":
            return self._energy if due else None
        if gathered.number("accuracy/weight") == 0:
            return None
        if fed_by == "data":
            sizes, accuracies = torch.tensor(self._curve, dtype=torch.float64).reshape(-1, 2).unbind(-1)
            grown = self.data_is_new and bool(sizes.min() <= sizes.max() / 2)
            return {"num_examples": sizes, "accuracy": accuracies} if grown else None
        return {"accuracy": self.accuracy, "num_examples": self.num_examples}

    @property
    def per(self) -> Any:
        """What FLOPs are counted for."""
        return "token" if self.has_tokens else "example"

    def baseline(self) -> Values:
        """What is known before the first optimizer step, under its keys."""
        known = {
            "random_accuracy": "random_baseline",
            "total_params": "total_params",
            "active_params": "active_params",
            "num_bytes": "num_bytes",
            f"flops_per_{self.per}": "num_flops",
        }
        return {
            f"baseline/{key}": torch.tensor(self.facts[name], dtype=torch.float64)
            for key, name in known.items()
            if name in self.facts
        }

    def row(self) -> dict[str, Any]:
        """The figures of this model in the final table."""
        names = ("total_params", "active_params", "num_bytes", "num_flops", "random_baseline")
        return {
            **{name: self.facts.get(name) for name in names},
            "accuracy": self.accuracy,
            "num_examples": self.num_examples,
            "num_tokens": self._seen["tokens"] or None,
            "per": self.per,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        accuracy = {"accuracy": self.accuracy, "num_examples": self.num_examples}
        chance = self.facts.get("random_baseline")
        return {"random_baseline": chance, "seen": dict(self._seen), "curve": list(self._curve), **accuracy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was."""
        if state["random_baseline"] is not None:
            self.facts["random_baseline"] = state["random_baseline"]
        self._seen, self._curve = dict(state["seen"]), list(state["curve"])
        self.accuracy, self.num_examples = state["accuracy"], state["num_examples"]


def _idle(layer: MoELayer, window: Window) -> float:
    """A layer's expert parameters that one token leaves alone: the mean over the tokens of a window."""
    states: dict[str, Tensor] = window[layer.name]
    if states["num_tokens"] == 0:
        return 0.0
    num_selected = float(states["load"][: layer.num_experts].sum() / states["num_tokens"])
    num_params = sum(parameter.numel() for parameter in layer.expert_parameters())
    return num_params * (1 - num_selected / layer.num_experts)
