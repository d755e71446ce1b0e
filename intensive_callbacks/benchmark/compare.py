"""Whether one model is better configured than another, with confidence: both on the same examples, paired."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.columns import COMPARABLE, comparable_column, comparable_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intensive_callbacks.benchmark.row import BenchmarkRow


@dataclass(frozen=True)
class Difference:
    """How far apart two models are in one quantity.

    Attributes:
        quantity: accuracy, or a metric's symbol.
        unit: its unit.
        first: its value for the first model.
        second: its value for the second.
        low: the lower end of the 95 % interval of first - second.
        high: the upper end.
        better: the direction in which the better lies.
    """

    quantity: str
    unit: str
    first: float
    second: float
    low: float
    high: float
    better: str

    @property
    def value(self) -> float:
        """First minus second."""
        return self.first - self.second

    @property
    def better_model(self) -> int | None:
        """0 if the first model is better, 1 if the second, ``None`` if the interval does not tell."""
        if self.better == "neither" or not (self.low > 0 or self.high < 0):
            return None
        return int((self.low > 0) != (self.better == "higher"))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same examples; printing it tells what can be said.

    Attributes:
        models: their names.
        num_examples: examples both were tested on.
        only_first: how many of them only the first model answered rightly.
        only_second: how many only the second did.
        p_value: McNemar's exact test of equal accuracy, two-sided.
        differences: of the accuracy and of each metric, first minus second.
    """

    models: tuple[str, str]
    num_examples: int
    only_first: int
    only_second: int
    p_value: float
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        first, second = self.models
        lines = [
            f"{first} against {second} on the same {self.num_examples:,} examples: {self.only_first} only {first} has "
            f"right, {self.only_second} only {second} (McNemar p = {self.p_value:.2g})"
        ]
        lines += [f"  {_sentence(difference, self.models)}" for difference in self.differences]
        return "\n".join(lines)


def _sentence(difference: Difference, models: tuple[str, str]) -> str:
    winner = difference.better_model
    unit = "" if difference.unit == "1" else f" {difference.unit}"
    verdict = {
        None: "no difference is shown" if difference.better != "neither" else "no direction is better",
        0: f"{models[0]} is better",
        1: f"{models[1]} is better",
    }[winner]
    return (
        f"{difference.quantity}: {verdict}; difference {difference.value:+.4g}{unit}, "
        f"95 % interval {difference.low:+.4g} to {difference.high:+.4g}"
    )


def compare(
    first: BenchmarkRow,
    second: BenchmarkRow,
    metrics: Sequence[str] = COMPARABLE,
    *,
    num_resamples: int = 20_000,
    seed: int = 0,
) -> Comparison:
    """Compare two models that answered the same examples.

    The examples are resampled in pairs, so that what is hard for both cancels; each metric is formed anew from each
    resample, and the interval holds the middle 95 % of its differences. The costs are taken as exact.

    Args:
        first: a model with its per-example results (``correct``).
        second: another, on the same task and examples.
        metrics: keys or symbols; one that either model lacks the figures for is left out.
        num_resamples: how many resamples.
        seed: of the resampling.

    Returns:
        The differences with their intervals.

    Raises:
        ValueError: if a model has no per-example results, or the tasks, protocols or examples differ: then nothing can
            be said with confidence.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap" (1993); McNemar (1947), exact binomial form.

    Example:
        >>> from dataclasses import replace
        >>> from intensive_callbacks.benchmark.row import BenchmarkRow
        >>> small = BenchmarkRow(model="small", task="t", protocol="p", source="s", active_params=1e6,
        ...                      correct={i: i % 10 > 1 for i in range(500)})
        >>> large = replace(small, model="large", active_params=2e6, correct={i: i % 10 > 0 for i in range(500)})
        >>> print(compare(small, large, ["P3"]))
        small against large on the same 500 examples: 0 only small has right, 50 only large (McNemar p = 1.8e-15)
          accuracy: large is better; difference -0.1 fraction, 95 % interval -0.126 to -0.074
          P3: small is better; difference +3.5e+04 points per 1e9 params, 95 % interval +3.3e+04 to +3.68e+04
    """
    both, only_first, only_second, neither = _paired_counts(first, second)
    num_examples = both + only_first + only_second + neither
    shares = _resampled(both, only_first, only_second, neither, num_resamples, seed)
    accuracies = ((both + only_first) / num_examples, (both + only_second) / num_examples)
    differences = [_difference("accuracy", "fraction", "higher", accuracies, shares)]
    for name in metrics:
        functions = (comparable_function(name, first), comparable_function(name, second))
        if functions[0] is None or functions[1] is None:
            continue
        column = comparable_column(name)
        values = tuple(float(function(accuracy)) for function, accuracy in zip(functions, accuracies, strict=True))
        samples = tuple(function(share) for function, share in zip(functions, shares, strict=True))
        differences.append(_difference(column.title, column.unit, column.better, values, samples))
    return Comparison(
        models=(first.model, second.model),
        num_examples=num_examples,
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar(only_first, only_second),
        differences=tuple(differences),
    )
