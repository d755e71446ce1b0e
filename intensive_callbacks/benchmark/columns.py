"""The benchmark's columns: how each is formed from a row, by one convention for every row."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from intensive_callbacks import functional, metrics
from intensive_callbacks.cards import CARDS, Card, card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from intensive_callbacks.benchmark.row import BenchmarkRow

COMPARABLE = (
    "intensive/p3_score",
    "intensive/p2f_score",
    "intensive/memory_efficiency",
    "intensive/relevance_rate",
    "intensive/intelligence_density",
    "intensive/capability_density",
)

# The reference family behind it was scored there.
ONLY_ON = {"intensive/capability_density": "MMLU"}

MEASURED = " measured"
NOT_MEASURED = "not measured here"
OFF_TASK = "it has a meaning only on"

_FACTS = {
    "accuracy": "accuracy",
    "num_params": "active parameters",
    "total_params": "total parameters",
    "active_params": "active parameters",
    "num_bytes": "bytes of the weights",
    "num_flops": "FLOPs",
    "num_tokens": "training tokens",
    "random_baseline": "accuracy of chance",
}


@dataclass(frozen=True)
class Cell:
    """A value, its standard error where one is known, and why it is missing where it is (NaN)."""

    value: float
    error: float = math.nan
    missing: str = ""


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: what stands above it.
        unit: the unit of its numbers.
        better: the direction in which the best lies.
        cell: forms its cell of a row.
        prefixes: for a size in billions, the letters that stand for 1e3, 1e6, 1e9 and 1e12; a score has none.
    """

    title: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    cell: Callable[[BenchmarkRow], Cell]
    prefixes: str = ""


def amount_columns() -> list[Column]:
    """What every row costs, and its accuracy."""
    return [
        _amount("total params", "total_params", "B", "kMBT"),
        _amount("active params", "active_params", "B", "kMBT"),
        _amount("weights", "num_bytes", "GB", "kMGT"),
        _amount("FLOPs", "num_flops", "GFLOP", "kMGT"),
        Column("accuracy", "fraction", "higher", _accuracy),
    ]


def _amount(title: str, fact: str, unit: str, prefixes: str) -> Column:
    def cell(row: BenchmarkRow) -> Cell:
        value = row.facts[fact]
        return Cell(math.nan, missing=f"{_FACTS[fact]} not given") if value is None else Cell(value / 1e9)

    return Column(title, unit, "lower", cell, prefixes)


def _accuracy(row: BenchmarkRow) -> Cell:
    missing = "accuracy not given" if math.isnan(row.accuracy) else ""
    return Cell(row.accuracy, row.accuracy_error, missing)


def comparable_column(name: str) -> Column:
    """The column of a metric that follows from a row's figures alone.

    Raises:
        KeyError: if there is no such metric.
        ValueError: if the metric needs what only a run can measure.
    """
    described = card(name)
    _, needed = _function(described)
    unknown = needed - _FACTS.keys()
    if unknown:
        raise ValueError(
            f"{described.symbol} does not follow from a row's figures: it needs {', '.join(sorted(unknown))}"
        )

    def cell(row: BenchmarkRow) -> Cell:
        if "accuracy" in needed and math.isnan(row.accuracy):
            return Cell(math.nan, missing="accuracy not given")
        try:
            at_costs = metric_of_accuracy(name, row)
        except LookupError as absent:
            return Cell(math.nan, missing=str(absent))
        accuracy = torch.tensor(row.accuracy, dtype=torch.float64, requires_grad=True)
        value = at_costs(accuracy)
        if value.isnan():
            return Cell(math.nan, missing=_why_undefined(described))
        return Cell(value.item(), _error(value, accuracy, row))

    return Column(described.symbol, described.unit, described.better, cell)


def metric_of_accuracy(name: str, row: BenchmarkRow) -> Callable[[torch.Tensor], torch.Tensor]:
    """A metric as a function of the accuracy alone: its other arguments are the row's figures.

    Raises:
        LookupError: if the row lacks a figure that the metric needs; the message says which.
    """
    described = card(name)
    task = ONLY_ON.get(described.key, row.task)
    if task.casefold() != row.task.casefold():
        raise LookupError(f"{OFF_TASK} {task}")
    function, needed = _function(described)
    facts = {fact: value for fact, value in row.facts.items() if fact in needed}
    absent = sorted({_FACTS[fact] for fact, value in facts.items() if value is None})
    if absent:
        raise LookupError(f"{', '.join(absent)} not given")
    if "num_examples" in inspect.signature(function).parameters:
        facts["num_examples"] = row.num_examples
    return lambda accuracy: function(**{"accuracy": accuracy} if "accuracy" in needed else {}, **facts)


def _function(described: Card) -> tuple[Callable[..., torch.Tensor], set[str]]:
    """The pure function behind a card, and the arguments that it cannot do without."""
    if described.metric is None:
        raise ValueError(f"{described.key} is not a metric")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", described.metric.partition(".")[2]).lower()
    function: Callable[..., torch.Tensor] = getattr(functional, name)
    parameters = inspect.signature(function).parameters.values()
    return function, {parameter.name for parameter in parameters if parameter.default is parameter.empty}


def _why_undefined(described: Card) -> str:
    return str(getattr(metrics, str(described.metric).partition(".")[2]).undefined)


def _error(value: torch.Tensor, accuracy: torch.Tensor, row: BenchmarkRow) -> float:
    """The accuracy's standard error, carried on by the slope of the metric."""
    if row.num_examples is None or not value.requires_grad:
        return math.nan
    (slope,) = torch.autograd.grad(value, accuracy)
    return abs(float(slope)) * row.accuracy_error


def measured_columns(rows: Iterable[BenchmarkRow], comparable: Iterable[Column]) -> list[Column]:
    """One column per key that some row measured, in the order of the cards; not those that repeat a comparable one."""
    rows = list(rows)
    by_title = {column.title: column for column in comparable}
    keys = dict.fromkeys(key for row in rows for key in row.measured)
    order = {described.key: place for place, described in enumerate(CARDS)}
    columns = [_measured(key) for key in sorted(keys, key=lambda key: order.get(key, len(order)))]
    return [
        column for column in columns if not _repeats(column, by_title.get(column.title.removesuffix(MEASURED)), rows)
    ]


def _measured(key: str) -> Column:
    described = next((candidate for candidate in CARDS if candidate.key == key), None)

    def cell(row: BenchmarkRow) -> Cell:
        value = row.measured.get(key, math.nan)
        missing = "" if not math.isnan(value) else "undefined" if key in row.measured else NOT_MEASURED
        return Cell(value, row.measured_errors.get(key, math.nan), missing)

    if described is None:
        return Column(f"{key}{MEASURED}", "1", "neither", cell)
    return Column(f"{described.symbol}{MEASURED}", described.unit, described.better, cell)


def _repeats(column: Column, comparable: Column | None, rows: list[BenchmarkRow]) -> bool:
    if comparable is None:
        return False
    pairs = [(column.cell(row).value, comparable.cell(row).value) for row in rows]
    return all(math.isnan(measured) or math.isclose(measured, other, rel_tol=1e-6) for measured, other in pairs)
