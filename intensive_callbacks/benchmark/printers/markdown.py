"""The table as Markdown. A row's strings are data and never become markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
    from intensive_callbacks.benchmark.grid import Grid, Group


def to_markdown(grid: Grid) -> str:
    """One table per group, its best values bold, the reasons for its dashes below it."""
    lines: list[str] = []
    for group in grid.groups:
        lines += [f"### {' · '.join(map(_escaped, group))}", "", *_scores(grid, group), ""]
        members, measured = measured_lines(grid, group)
        if members:
            models = [grid.groups[group][j].model for j in members]
            cells = [[_escaped(cell) for cell in line] for line in measured]
            lines += [*_table(["measured", "unit", *map(_escaped, models)], cells, num_text=2), ""]
        lines += [*(f"- {_escaped(note)}" for note in notes(grid, group)), ""]
    return "\n".join([*lines, legend(grid), ""])


def _scores(grid: Grid, group: Group) -> list[str]:
    visible = visible_columns(grid, group)
    best = {column: grid.best(group, column) for column in visible}
    rows = []
    for j, row in enumerate(grid.groups[group]):
        cells = [(shown(column, grid.cells[group][column][j]), j in best[column]) for column in visible]
        rows.append([_escaped(row.model), *(f"**{cell}**" if wins else cell for cell, wins in cells)])
    headings = [heading(grid, group, column).replace("\n", " ").strip() for column in visible]
    return _table(["model", *headings], rows, num_text=1)


def _table(headings: list[str], rows: list[list[str]], num_text: int) -> list[str]:
    """A Markdown table whose first ``num_text`` columns are aligned left."""
    rule = "|" + "---|" * num_text + "---:|" * (len(headings) - num_text)
    return [f"| {' | '.join(headings)} |", rule, *(f"| {' | '.join(cells)} |" for cells in rows)]


def _escaped(text: str) -> str:
    return (
        re.sub(r"([\\`*_\[\]|])", r"\\\1", printable(text))
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
