"""What was gathered between two logging steps: sums to add over processes and samples to collect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.distributed import reduce_states
from intensive_callbacks.functional.checks import as_fraction

if TYPE_CHECKING:
    from torchmetrics import Metric

States = dict[str, Tensor]
Window = dict[str, States]


@dataclass
class Gathered:
    """One logging step's sums and samples, under ``group/name`` or ``group/layer/name``, and what failed.

    Attributes:
        sums: what is added over processes.
        samples: what is concatenated.
        failed: the groups that could not be formed, with what was raised; ``None`` where another process raised it.
    """

    sums: States = field(default_factory=dict)
    samples: States = field(default_factory=dict)
    failed: dict[str, Exception | None] = field(default_factory=dict)

    def add_window(self, group: str, window: Window) -> None:
        """Add the sums of every layer of a window."""
        for layer, states in window.items():
            self.sums |= {f"{group}/{layer}/{name}": value for name, value in states.items()}

    def add_accuracy(self, accuracy: float | Tensor | None, num_examples: int | None) -> None:
        """Add an accuracy, weighted by the examples it stands for; nothing where there is none."""
        weight = 0 if accuracy is None else 1 if num_examples is None else num_examples
        correct = 0.0
        try:
            correct = (
                0.0 if accuracy is None or weight == 0 else weight * float(as_fraction("accuracy", float(accuracy)))
            )
        except ValueError as error:
            self.failed["accuracy"] = error
        uncounted = accuracy is not None and num_examples is None
        totals = scalars(correct=correct, weight=weight, uncounted=uncounted)
        self.sums |= {f"accuracy/{name}": value for name, value in totals.items()}

    def add_metric(self, group: str, metric: Metric) -> None:
        """Add a metric's states: sums are summed, whatever else there is is collected."""
        for name, state in metric.metric_state.items():
            if isinstance(state, list):
                self.samples[f"{group}/{name}"] = torch.cat(state) if state else torch.empty(0)
            elif getattr(metric._reductions[name], "__name__", "") == "dim_zero_sum":  # noqa: SLF001 - no other way
                self.sums[f"{group}/{name}"] = state
            else:
                self.samples[f"{group}/{name}"] = state.unsqueeze(0)

    def load_metric(self, group: str, metric: Metric) -> None:
        """Put a group's states into a metric, which then computes without a synchronisation of its own."""
        for name, state in metric.metric_state.items():
            if f"{group}/{name}" in self.sums:
                setattr(metric, name, self.sums[f"{group}/{name}"])
            else:
                reduction: Any = metric._reductions[name]  # noqa: SLF001 - ditto
                collected = self.samples[f"{group}/{name}"]
                setattr(metric, name, [collected] if isinstance(state, list) else reduction(collected))
        metric._to_sync = False  # noqa: SLF001 - ditto
        metric._update_count += 1  # noqa: SLF001 - ditto; torchmetrics warns of a metric that took no update

    def reduce(self) -> Gathered:
        """The same over all processes."""
        sums, samples, failed = reduce_states(self.sums, self.samples, self.failed)
        return Gathered(sums, samples, {group: self.failed.get(group) for group in failed})

    def number(self, name: str) -> float:
        """One sum as a number."""
        return float(self.sums[name])

    def window(self, group: str) -> Window:
        """The sums of a window, by layer and name."""
        window: Window = {}
        for name, value in self.sums.items():
            first, _, rest = name.partition("/")
            if first == group:
                layer, _, state = rest.rpartition("/")
                window.setdefault(layer, {})[state] = value
        return window


def scalars(**values: float | Tensor) -> States:
    """Numbers as tensors to add up; counts stay exact."""
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
