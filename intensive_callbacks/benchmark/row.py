"""One model of the benchmark: its score, its costs, and the source of its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from intensive_callbacks.functional.checks import as_float64, as_fraction, require_baseline, require_positive, uncertain

if TYPE_CHECKING:
    from collections.abc import Mapping

# The costs of a model and what a table calls them.
COSTS = {
    "total_params": "total params",
    "active_params": "active params",
    "num_bytes": "weights",
    "num_flops": "FLOPs",
}
_COUNTS = ("total_params", "active_params", "num_bytes", "num_flops", "num_tokens", "num_examples")


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One model on one task under one protocol.

    Attributes:
        model: its name.
        task: what was tested; rows of different tasks are never ranked together.
        protocol: how it was tested (shots, prompt, evaluator, split); rows of different protocols are not ranked
            together either.
        source: where the figures are published.
        accuracy: a fraction in [0, 1]; NaN where there is none.
        total_params: every parameter once.
        active_params: parameters that one token or example touches.
        num_bytes: resident weights in the format that was scored.
        num_flops: counted floating point operations (1 MAC = 2) of one forward pass, per token or example as ``per``
            says.
        per: whether ``num_flops`` is per token or per example.
        num_examples: examples the accuracy stands for; from which the standard errors follow.
        num_tokens: tokens it was trained on.
        random_baseline: the accuracy of chance, in (0, 1).
        measured: logged values of this model by key; any key, with or without a card.
        measured_errors: their standard errors by key, where known.
        correct: whether each example, by its id, was answered correctly; needed by
            :func:`~intensive_callbacks.benchmark.compare.compare`. The ids of a run's examples are 0, 1, 2, ... in the
            order of its validation.
        featured: whether it is among the few rows that are printed.

    Raises:
        ValueError: if the accuracy or the baseline is not a fraction, a count is not above 0, or there are more active
            than total parameters.

    Example:
        >>> BenchmarkRow(model="tiny", task="digits", protocol="test split", source="measured here", accuracy=0.9)
        BenchmarkRow(model='tiny', ...)
    """

    model: str
    task: str
    protocol: str
    source: str
    accuracy: float = math.nan
    total_params: float | None = None
    active_params: float | None = None
    num_bytes: float | None = None
    num_flops: float | None = None
    per: Literal["token", "example"] = "token"
    num_examples: int | None = None
    num_tokens: float | None = None
    random_baseline: float | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    measured_errors: Mapping[str, float] = field(default_factory=dict)
    correct: Mapping[Any, bool] | None = field(default=None, repr=False)
    featured: bool = True

    def __post_init__(self) -> None:
        for name in ("model", "task", "protocol", "source"):
            if not (isinstance(value := getattr(self, name), str) and value):
                raise ValueError(f"{name} must be a non-empty string, got {value!r}")
        as_fraction("accuracy", self.accuracy)
        if self.per not in ("token", "example"):
            raise ValueError(f"per must be 'token' or 'example', got {self.per!r}")
        for name in _COUNTS:
            if (value := getattr(self, name)) is not None:
                require_positive(name, value)
        if self.random_baseline is not None:
            require_baseline(self.random_baseline)
        if self.total_params and self.active_params and self.active_params > self.total_params:
            raise ValueError(
                f"active_params must be at most total_params, got {self.active_params:g} of {self.total_params:g}"
            )

    @property
    def group(self) -> tuple[str, str]:
        """Task and protocol: rows that share both may be compared."""
        return self.task, self.protocol

    @property
    def facts(self) -> dict[str, float | None]:
        """The arguments of the metrics besides the accuracy: parameters are the active ones, FLOPs were counted."""
        return {
            "num_params": self.active_params,
            "total_params": self.total_params,
            "active_params": self.active_params,
            "num_bytes": self.num_bytes,
            "num_flops": self.num_flops,
            "num_tokens": self.num_tokens,
            "random_baseline": self.random_baseline,
        }

    @property
    def analytic_flops(self) -> float | None:
        """2 x active parameters, the estimate for a row whose FLOPs per token were not counted; ``None`` for others.

        FLOPs per example do not follow from parameters.
        """
        if self.num_flops is not None or self.per != "token" or self.active_params is None:
            return None
        return 2 * self.active_params

    @property
    def accuracy_error(self) -> float:
        """Binomial standard error of the accuracy; NaN where the number of examples is unknown.

        Where all n examples were right, or all wrong, it is that of half an example less, or more: n examples do not
        prove certainty.
        """
        if self.num_examples is None:
            return math.nan
        accuracy = float(uncertain(as_float64(self.accuracy), self.num_examples))
        return math.sqrt(accuracy * (1 - accuracy) / self.num_examples)
