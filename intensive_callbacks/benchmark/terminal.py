"""The benchmark table in a terminal, as wide as that is. A row's strings are data and stay text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from intensive_callbacks.benchmark.layout import (
    heading,
    legend,
    measured_lines,
    notes,
    printable,
    shown,
    visible_columns,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from intensive_callbacks.benchmark.table import BenchmarkTable

MODEL_WIDTH = 16


def renderables(table: BenchmarkTable, width: int) -> Iterator[RenderableType]:
    """One table per group; best values bold, dashes explained below."""
    for group in table.groups:
        yield Text(" · ".join(map(printable, group)), style="bold")
        for columns in _blocks(table, group, width):
            yield _scores(table, group, columns)
        yield from _measured(table, group)
        yield Padding(Text("\n".join(map(printable, notes(table, group))), style="dim"), (0, 0, 1, 0))
    yield Text(legend(table), style="dim")


def _blocks(table: BenchmarkTable, group: tuple[str, str], width: int) -> list[list[int]]:
    """All columns beside each other where they fit, or else the scores below the costs."""
    visible = visible_columns(table, group)
    together = _fitting(table, group, visible, width)
    if len(together) == 1:
        return together
    num_costs = sum(bool(table.numbers[i].prefixes) for i in visible)
    parts = [part for part in (visible[:num_costs], visible[num_costs:]) if part]
    return [block for part in parts for block in _fitting(table, group, part, width)]


def _fitting(table: BenchmarkTable, group: tuple[str, str], columns: list[int], width: int) -> list[list[int]]:
    """The columns, in as few blocks as the width allows, so that no number is cut."""
    blocks: list[list[int]] = [[]]
    used = MODEL_WIDTH
    for i in columns:
        cells = [shown(table.numbers[i], cell) for cell in table.cells[group][i]]
        needed = 2 + max(map(len, [*cells, *heading(table, group, i).split("\n")]))
        if blocks[-1] and used + needed > width:
            blocks.append([])
            used = MODEL_WIDTH
        blocks[-1].append(i)
        used += needed
    return blocks


def _scores(table: BenchmarkTable, group: tuple[str, str], columns: list[int]) -> Table:
    grid = Table(box=None, pad_edge=False)
    grid.add_column("\nmodel", overflow="fold", min_width=MODEL_WIDTH)
    for i in columns:
        grid.add_column(heading(table, group, i), justify="right", no_wrap=True)
    best = {i: table.best_places(group, i) for i in columns}
    for j, row in enumerate(table.groups[group]):
        cells = [
            Text(shown(table.numbers[i], table.cells[group][i][j]), style="bold green" if j in best[i] else "")
            for i in columns
        ]
        grid.add_row(Text(printable(row.model)), *cells)
    return grid


def _measured(table: BenchmarkTable, group: tuple[str, str]) -> Iterator[Table]:
    members, lines = measured_lines(table, group)
    if not members:
        return
    grid = Table(box=None, pad_edge=False)
    grid.add_column("\nmeasured")
    for j in members:
        grid.add_column(Text(f"\n{printable(table.groups[group][j].model)}"), justify="right")
    grid.add_column("\nunit", style="dim")
    for symbol, unit, *values in lines:
        grid.add_row(Text(symbol), *values, "" if unit == "1" else Text(unit))
    yield grid
