"""The grid of the benchmark: models grouped by task and protocol, cells by column, the best of a group.

A column is known by its key. Titles and shown units are what a printer makes of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from intensive_callbacks.cards import card
from intensive_callbacks.cards.units import FACTS, Unit, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from intensive_callbacks.benchmark.row import BenchmarkRow

Group = tuple[str, str]
MEASURED = " measured"


@dataclass(frozen=True)
class Cell:
    """A value in its base unit, its standard error where it has one, and the reason why it is undefined (NaN)."""

    value: float
    error: float = math.nan
    missing: str = ""


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: the key of its card, the fact that it shows (``"total_params"``, ``"accuracy"``), or any measured key.
        title: what a reader calls it.
        better: the direction in which the best value lies.
        cell: forms its cell for a row.
        measured: whether it holds what a run measured, instead of what follows from the figures of every row.
    """

    key: str
    title: str
    better: Literal["higher", "lower", "neither"]
    cell: Callable[[BenchmarkRow], Cell]
    measured: bool = False

    @property
    def unit(self) -> Unit:
        """The unit of its cells."""
        return unit_of(self.key)

    @property
    def full_title(self) -> str:
        """The title, which for a measured column says so."""
        return f"{self.title}{MEASURED}" if self.measured else self.title


class Grid:
    """Rows by group and their cells by column.

    Args:
        rows: the models, in the order in which they are shown.
        columns: the columns; of two with one key, the first is found by that key.

    Attributes:
        columns: the columns.
        groups: the rows of each task and protocol.
        cells: the cells of each group, by column, in the order of the group's rows.
    """

    def __init__(self, rows: Iterable[BenchmarkRow], columns: Iterable[Column]) -> None:
        self.columns = tuple(columns)
        self.groups: dict[Group, list[BenchmarkRow]] = {}
        for row in rows:
            self.groups.setdefault(row.group, []).append(row)
        self.cells: dict[Group, dict[Column, list[Cell]]] = {
            group: {column: [column.cell(row) for row in members] for column in self.columns}
            for group, members in self.groups.items()
        }

    def find(self, name: str) -> Column:
        """The column with this key, symbol or title; case is ignored.

        Raises:
            KeyError: if there is none; the message lists what there is.
        """
        wanted = name.casefold()
        for column in self.columns:
            if wanted in {text.casefold() for text in (column.key, column.title, column.full_title)}:
                return column
        key = card(name).key
        fact = FACTS.get(key, key)
        for column in self.columns:
            if column.key == fact:
                return column
        raise KeyError(
            f"the table has no column {name!r}; it has {', '.join(each.full_title for each in self.columns)}"
        )

    def best(self, group: Group, column: Column) -> set[int]:
        """The places of a group's best rows in a column; none where fewer than two can be compared."""
        values = {i: cell.value for i, cell in enumerate(self.cells[group][column]) if not math.isnan(cell.value)}
        if column.better == "neither" or len(values) < 2:
            return set()
        target = max(values.values()) if column.better == "higher" else min(values.values())
        return {i for i, value in values.items() if value == target}

    def sort(self, column: Column) -> None:
        """Order each group by a column, best first, undefined last."""
        sign = 1 if column.better == "lower" else -1
        for group, by_column in self.cells.items():
            values = [cell.value for cell in by_column[column]]
            order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), sign * values[i]))
            self.groups[group] = [self.groups[group][i] for i in order]
            self.cells[group] = {each: [cells[i] for i in order] for each, cells in by_column.items()}
