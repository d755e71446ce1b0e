"""The table in a terminal, as wide as that is. A row's strings are data and are printed as plain text."""

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

    from intensive_callbacks.benchmark.grid import Column, Grid, Group

MODEL_WIDTH = 16


def renderables(grid: Grid, width: int) -> Iterator[RenderableType]:
    """One table per group, its best values bold, the reasons for its dashes below it."""
    for group in grid.groups:
        yield Text(" · ".join(map(printable, group)), style="bold")
        for columns in _blocks(grid, group, width):
            yield _scores(grid, group, columns)
        yield from _measured(grid, group)
        yield Padding(Text("\n".join(map(printable, notes(grid, group))), style="dim"), (0, 0, 1, 0))
    yield Text(legend(grid), style="dim")


def _blocks(grid: Grid, group: Group, width: int) -> list[list[Column]]:
    """All columns beside each other where they fit; otherwise the scores below the costs."""
    visible = visible_columns(grid, group)
    together = _fitting(grid, group, visible, width)
    if len(together) == 1:
        return together
    costs = [column for column in visible if column.unit.prefixes]
    scores = [column for column in visible if not column.unit.prefixes]
    return [block for part in (costs, scores) if part for block in _fitting(grid, group, part, width)]


def _fitting(grid: Grid, group: Group, columns: list[Column], width: int) -> list[list[Column]]:
    """The columns in as few blocks as the width allows, so that no number is cut."""
    blocks: list[list[Column]] = [[]]
    used = MODEL_WIDTH
    for column in columns:
        cells = [shown(column, cell) for cell in grid.cells[group][column]]
        needed = 2 + max(map(len, [*cells, *heading(grid, group, column).split("\n")]))
        if blocks[-1] and used + needed > width:
            blocks.append([])
            used = MODEL_WIDTH
        blocks[-1].append(column)
        used += needed
    return blocks


def _scores(grid: Grid, group: Group, columns: list[Column]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("\nmodel", overflow="fold", min_width=MODEL_WIDTH)
    for column in columns:
        table.add_column(heading(grid, group, column), justify="right", no_wrap=True)
    best = {column: grid.best(group, column) for column in columns}
    for j, row in enumerate(grid.groups[group]):
        cells = [
            Text(shown(column, grid.cells[group][column][j]), style="bold green" if j in best[column] else "")
            for column in columns
        ]
        table.add_row(Text(printable(row.model)), *cells)
    return table


def _measured(grid: Grid, group: Group) -> Iterator[Table]:
    members, lines = measured_lines(grid, group)
    if not members:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("\nmeasured")
    for j in members:
        table.add_column(Text(f"\n{printable(grid.groups[group][j].model)}"), justify="right")
    table.add_column("\nunit", style="dim")
    for title, unit, *values in lines:
        table.add_row(Text(printable(title)), *values, "" if unit == "1" else Text(unit))
    yield table
