"""The benchmark's columns: how each is formed from a row, by one convention for every row."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from intensive_callbacks import cards, functional, metrics
from intensive_callbacks.benchmark.grid import Cell, Column
from intensive_callbacks.benchmark.row import COSTS
from intensive_callbacks.cards.units import describe

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

NOT_MEASURED = "not measured here"
COUNTED = "FLOPs were counted"
NOT_COUNTED = "FLOPs were not counted"
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


def amount_columns() -> list[Column]:
    """The columns of costs and of the accuracy."""
    costs = [Column(fact, title, "lower", _cost(fact)) for fact, title in COSTS.items()]
    return [*costs, Column("accuracy", "accuracy", "higher", _accuracy)]


def _analytic_flops(row: BenchmarkRow) -> Cell:
    flops = row.analytic_flops
    return Cell(math.nan, missing=COUNTED if row.num_flops else _no_flops(row)) if flops is None else Cell(flops)


def _analytic_p2f(row: BenchmarkRow) -> Cell:
    flops = _analytic_flops(row)
    if flops.missing or math.isnan(row.accuracy):
        return Cell(math.nan, missing=flops.missing or "accuracy not given")
    return _of_accuracy(lambda accuracy: functional.performance_per_flop(accuracy, flops.value), row, "undefined")


# FLOPs estimated as 2 x active parameters per token, and the P2F formed from them, by the column they follow.
ANALYTIC = {
    "num_flops": Column("analytic_flops", "2N FLOPs", "lower", _analytic_flops),
    "intensive/p2f_score": Column("analytic_p2f", "P2F (2N)", "higher", _analytic_p2f),
}


def with_analytic(columns: Iterable[Column], rows: Iterable[BenchmarkRow]) -> list[Column]:
    """The columns; those of counted FLOPs are followed by those of estimates if any row has an estimate."""
    columns = list(columns)
    if not any(row.analytic_flops for row in rows):
        return columns
    return [each for column in columns for each in (column, ANALYTIC.get(column.key)) if each is not None]


def _no_flops(row: BenchmarkRow) -> str:
    """Why FLOPs are unknown: they were estimated instead, or neither count nor estimate is possible."""
    return f"{_FACTS['num_flops']} not given" if row.analytic_flops is None else NOT_COUNTED


def _cost(fact: str) -> Callable[[BenchmarkRow], Cell]:
    def cell(row: BenchmarkRow) -> Cell:
        value = row.facts[fact]
        if value is not None:
            return Cell(value)
        return Cell(math.nan, missing=_no_flops(row) if fact == "num_flops" else f"{_FACTS[fact]} not given")

    return cell


def _accuracy(row: BenchmarkRow) -> Cell:
    missing = "accuracy not given" if math.isnan(row.accuracy) else ""
    return Cell(row.accuracy, row.accuracy_error, missing)


def comparable_column(name: str) -> Column:
    """The column of a metric that follows from a row's figures alone.

    Raises:
        KeyError: if there is no such metric.
        ValueError: if the metric needs what only a run can measure.
    """
    card = cards.card(name)
    _, needed = _function(card)
    unknown = needed - _FACTS.keys()
    if unknown:
        raise ValueError(f"{card.symbol} does not follow from a row's figures: it needs {', '.join(sorted(unknown))}")

    def cell(row: BenchmarkRow) -> Cell:
        if "accuracy" in needed and math.isnan(row.accuracy):
            return Cell(math.nan, missing="accuracy not given")
        try:
            at_costs = metric_of_accuracy(name, row)
        except LookupError as absent:
            return Cell(math.nan, missing=str(absent))
        return _of_accuracy(at_costs, row, _why_undefined(card))

    return Column(card.key, card.symbol, card.better, cell)


def _of_accuracy(function: Callable[[torch.Tensor], torch.Tensor], row: BenchmarkRow, undefined: str) -> Cell:
    """A function of the row's accuracy, with the accuracy's standard error propagated by its slope."""
    accuracy = torch.tensor(row.accuracy, dtype=torch.float64, requires_grad=True)
    value = function(accuracy)
    if value.isnan():
        return Cell(math.nan, missing=undefined)
    if row.num_examples is None or not value.requires_grad:
        return Cell(value.item())
    (slope,) = torch.autograd.grad(value, accuracy)
    return Cell(value.item(), abs(float(slope)) * row.accuracy_error)


def metric_of_accuracy(name: str, row: BenchmarkRow) -> Callable[[torch.Tensor], torch.Tensor]:
    """A metric as a function of the accuracy alone: its other arguments are the row's figures.

    Raises:
        LookupError: if the row lacks a figure that the metric needs; the message says which.
    """
    card = cards.card(name)
    task = ONLY_ON.get(card.key, row.task)
    if task.casefold() != row.task.casefold():
        raise LookupError(f"{OFF_TASK} {task}")
    function, needed = _function(card)
    facts = {fact: value for fact, value in row.facts.items() if fact in needed}
    absent = sorted({_FACTS[fact] for fact, value in facts.items() if value is None})
    if absent == [_FACTS["num_flops"]]:
        raise LookupError(_no_flops(row))
    if absent:
        raise LookupError(f"{', '.join(absent)} not given")
    if "num_examples" in inspect.signature(function).parameters:
        facts["num_examples"] = row.num_examples
    return lambda accuracy: function(**{"accuracy": accuracy} if "accuracy" in needed else {}, **facts)


@functools.cache
def _function(card: cards.Card) -> tuple[Callable[..., torch.Tensor], set[str]]:
    """The pure function behind a card, and its required arguments."""
    if card.metric is None:
        raise ValueError(f"{card.symbol} ({card.key}) has no function of a row's figures: it can only be measured")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", card.metric.partition(".")[2]).lower()
    function: Callable[..., torch.Tensor] = getattr(functional, name)
    parameters = inspect.signature(function).parameters.values()
    return function, {parameter.name for parameter in parameters if parameter.default is parameter.empty}


def _why_undefined(card: cards.Card) -> str:
    return str(getattr(metrics, str(card.metric).partition(".")[2]).undefined)


def measured_columns(rows: Iterable[BenchmarkRow], comparable: Iterable[Column]) -> list[Column]:
    """One column per key that some row measured, in the order of the cards; not those that repeat a comparable one."""
    rows = list(rows)
    by_key = {column.key: column for column in comparable}
    order = {card.key: place for place, card in enumerate(cards.CARDS)}
    keys = sorted({key: None for row in rows for key in row.measured}, key=lambda key: _place(key, order))
    columns = [_measured(key) for key in keys]
    columns = [column for column in columns if not _repeats(column, by_key.get(column.key), rows)]
    uses = Counter(column.title for column in columns)
    return [column if uses[column.title] == 1 else replace(column, title=column.key) for column in columns]


def _place(key: str, order: dict[str, int]) -> tuple[int, str]:
    described = describe(key)
    return (order[described[0].key], described[1]) if described else (len(order), key)


def _measured(key: str) -> Column:
    def cell(row: BenchmarkRow) -> Cell:
        value = row.measured.get(key, math.nan)
        missing = "" if not math.isnan(value) else "undefined" if key in row.measured else NOT_MEASURED
        return Cell(value, row.measured_errors.get(key, math.nan), missing)

    described = describe(key)
    if described is None:
        return Column(key, key, "neither", cell, measured=True)
    card, suffix = described
    return Column(key, card.symbol + suffix, card.better, cell, measured=True)


def _repeats(column: Column, comparable: Column | None, rows: list[BenchmarkRow]) -> bool:
    if comparable is None:
        return False
    pairs = [(column.cell(row).value, comparable.cell(row).value) for row in rows]
    return all(math.isnan(measured) or math.isclose(measured, other, rel_tol=1e-6) for measured, other in pairs)
