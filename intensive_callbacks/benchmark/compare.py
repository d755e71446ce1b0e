"""Whether one model is better configured than another: a paired comparison on the same examples."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from intensive_callbacks.benchmark.columns import COMPARABLE, metric_of_accuracy
from intensive_callbacks.cards import card

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intensive_callbacks.benchmark.row import BenchmarkRow


SIGNIFICANT = 0.05  # what a 95 % interval and its test agree on


@dataclass(frozen=True)
class Difference:
    """The difference of two models in one quantity.

    Attributes:
        quantity: accuracy, or a metric's symbol.
        unit: its unit.
        first: its value for the first model.
        second: its value for the second.
        low: the lower end of the 95 % interval of first - second.
        high: the upper end.
        better: the direction in which the better value lies.
        p_value: of the exact test that must agree with the interval; NaN where there is none, since models of
            different costs may differ in this quantity although their accuracies are equal.
    """

    quantity: str
    unit: str
    first: float
    second: float
    low: float
    high: float
    better: str
    p_value: float = math.nan

    @property
    def value(self) -> float:
        """First minus second."""
        return self.first - self.second

    @property
    def has_interval_alone(self) -> bool:
        """Whether the verdict rests on the interval alone, without an exact test."""
        return math.isnan(self.p_value)

    @property
    def better_model(self) -> int | None:
        """0 if the first model is better, 1 if the second, ``None`` unless interval and test, if any, say so."""
        if self.better == "neither" or not (self.low > 0 or self.high < 0) or self.p_value >= SIGNIFICANT:
            return None
        return int((self.low > 0) != (self.better == "higher"))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same examples; its text is the verdict.

    Attributes:
        models: their names.
        num_examples: examples that both were tested on.
        only_first: how many of them only the first model answered correctly.
        only_second: how many only the second model answered correctly.
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
        headline = (
            f"{first} against {second} on the same {self.num_examples:,} examples: "
            f"{self.only_first} only {first} answered correctly, {self.only_second} only {second} "
            f"(McNemar p = {self.p_value:.2g})"
        )
        if self.p_value >= SIGNIFICANT and (needed := num_discordant_needed(self.only_first, self.only_second)):
            headline += (
                f"; at this split the test would need about {needed:,} such examples to show a difference in accuracy; "
                f"there are {self.only_first + self.only_second:,}"
            )
        return "\n".join([headline, *(f"  {_sentence(difference, self.models)}" for difference in self.differences)])


def _sentence(difference: Difference, models: tuple[str, str]) -> str:
    winner = difference.better_model
    unit = "" if difference.unit == "1" else f" {difference.unit}"
    if winner is not None:
        verdict = f"{models[winner]} is better{'' if difference.quantity == 'accuracy' else ' configured'}"
    else:
        verdict = "no direction is better" if difference.better == "neither" else "no difference is shown"
    alone = " (by the interval alone: the costs differ, and the exact test is of the accuracies)"
    return (
        f"{difference.quantity}: {verdict}; difference {difference.value:+.3g}{unit}, "
        f"95 % interval {difference.low:+.3g} to {difference.high:+.3g}"
        f"{alone if difference.has_interval_alone and winner is not None else ''}"
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

    The examples are resampled in pairs, so that what is hard for both cancels; each metric is computed again from
    each resample, and the interval is the middle 95 % of its differences. The costs are taken as exact. A model is
    called better only where the interval excludes 0 and, for the accuracy and for metrics of models that cost the same,
    McNemar's exact test agrees. For a metric of models of different costs the interval decides alone, and the text says
    so.

    Args:
        first: a model with its per-example results (``correct``).
        second: another model on the same task and examples.
        metrics: keys or symbols; a metric is skipped where a model lacks its figures or a resample is undefined.
        num_resamples: number of bootstrap resamples.
        seed: seed of the resampling.

    Returns:
        The differences with their intervals.

    Raises:
        ValueError: if a model has no per-example results, or the tasks, protocols or examples differ.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap" (1993); McNemar (1947), exact binomial form.

    Example:
        >>> from dataclasses import replace
        >>> from intensive_callbacks.benchmark.row import BenchmarkRow
        >>> small = BenchmarkRow(model="small", task="t", protocol="p", source="s", active_params=1e6,
        ...                      correct={i: i % 10 > 1 for i in range(500)})
        >>> large = replace(small, model="large", active_params=2e6, correct={i: i % 10 > 0 for i in range(500)})
        >>> print(compare(small, large, ["P3"]))
        small against large on the same 500 examples: 0 only small answered correctly, 50 only ...
          accuracy: large is better; difference -0.1 fraction, 95 % interval -0.126 to -0.074
          P3: small is better configured; difference +3.5e+04 points per 1e9 params, 95 % interval ...
    """
    pairs = _paired_counts(first, second)
    both, only_first, only_second, _ = pairs
    num_examples = sum(pairs)
    shares = _resampled(pairs, num_resamples, seed)
    counts = torch.tensor([both + only_first, both + only_second], dtype=torch.float64)
    accuracies = counts / num_examples
    p_value = mcnemar(only_first, only_second)
    differences = [_difference("accuracy", "fraction", "higher", accuracies, shares, p_value=p_value)]
    for name in metrics:
        try:
            of_first, of_second = metric_of_accuracy(name, first), metric_of_accuracy(name, second)
        except LookupError:
            continue
        values = torch.stack([of_first(accuracies[0]), of_second(accuracies[1])])
        resampled = torch.stack([of_first(shares[0]), of_second(shares[1])])
        if values.isnan().any() or resampled.isnan().any():
            continue
        described = card(name)
        # Where the costs are alike, a difference in the metric is one in the accuracy, and the exact test is of both.
        alike = torch.equal(of_first(accuracies), of_second(accuracies))
        test = p_value if alike else math.nan
        differences.append(
            _difference(described.symbol, described.unit, described.better, values, resampled, p_value=test)
        )
    return Comparison(
        models=(first.model, second.model),
        num_examples=num_examples,
        only_first=only_first,
        only_second=only_second,
        p_value=p_value,
        differences=tuple(differences),
    )


def num_discordant_needed(only_first: int, only_second: int) -> int | None:
    """About how many discordant examples, split as these are, McNemar's test would need to show a difference.

    ``None`` where no number would do, since they are split evenly. Without any it is the least number that can do:
    all of them on one side. By the normal approximation with a continuity correction.

    Example:
        >>> num_discordant_needed(only_first=4, only_second=0)
        6
    """
    num_discordant = only_first + only_second
    lead = abs(only_first - only_second) / num_discordant if num_discordant else 1.0
    if lead == 0:
        return None
    return math.ceil(((1.96 + math.sqrt(1.96**2 + 4 * lead)) / (2 * lead)) ** 2)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test: the two-sided p-value of equal accuracies, from the discordant examples.

    Example:
        >>> mcnemar(only_first=1, only_second=9)
        0.021484375
    """
    num_discordant = only_first + only_second
    tail = sum(math.comb(num_discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**num_discordant))


def _paired_counts(first: BenchmarkRow, second: BenchmarkRow) -> tuple[int, int, int, int]:
    """Examples that both, only the first, only the second, and neither answered correctly."""
    if first.correct is None or second.correct is None:
        lacking = ", ".join(row.model for row in (first, second) if row.correct is None)
        raise ValueError(f"cannot compare: there are no per-example results of {lacking}")
    if first.group != second.group:
        raise ValueError(f"cannot compare {first.model} on {first.group} with {second.model} on {second.group}")
    if first.correct.keys() != second.correct.keys() or not first.correct:
        apart = len(first.correct.keys() ^ second.correct.keys())
        raise ValueError(
            f"cannot compare {first.model} with {second.model}: of their {len(first.correct):,} and "
            f"{len(second.correct):,} examples {apart:,} are not the same; give both the results of one test set"
        )
    pairs = Counter((bool(right), bool(second.correct[example])) for example, right in first.correct.items())
    return pairs[True, True], pairs[True, False], pairs[False, True], pairs[False, False]


def _resampled(counts: tuple[int, int, int, int], num_resamples: int, seed: int) -> torch.Tensor:
    """Accuracies of both models in resamples of the pairs, ``[2, num_resamples]``.

    Pairs of one kind are alike, so it is enough to draw how many of each kind there are.
    """
    num_examples = sum(counts)
    shares = np.array(counts) / num_examples
    drawn = np.random.default_rng(seed).multinomial(num_examples, shares, size=num_resamples)
    right = np.stack([drawn[:, 0] + drawn[:, 1], drawn[:, 0] + drawn[:, 2]])
    return torch.from_numpy(right / num_examples)


def _difference(
    quantity: str, unit: str, better: str, values: torch.Tensor, resampled: torch.Tensor, *, p_value: float
) -> Difference:
    low, high = torch.quantile(resampled[0] - resampled[1], torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Difference(quantity, unit, float(values[0]), float(values[1]), float(low), float(high), better, p_value)
