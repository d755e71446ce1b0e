"""How the grid is shown: how a cell is written, which columns a group has, and the notes below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.columns import COUNTED, NOT_MEASURED, OFF_TASK
from intensive_callbacks.benchmark.misnomer import efficiency_misnomer
from intensive_callbacks.untrusted import printable

if TYPE_CHECKING:
    from intensive_callbacks.benchmark.grid import Cell, Column, Grid, Group

__all__ = ["heading", "legend", "measured_lines", "notes", "printable", "shown", "visible_columns"]

CONVENTION = (
    "One convention for every row: P3 is per active parameter; FLOPs are counted (1 MAC = 2); where they were not, "
    "2N FLOPs are 2 x active parameters per token, of which P2F (2N) is formed; weights are in the format released or "
    "scored. ± is one standard error; bold the best of a group."
)
DASH = "—"
_HEADINGS = {
    "total_params": "total\nparams",
    "active_params": "active\nparams",
    "num_bytes": "weights\nbytes",
    "num_flops": "FLOPs\nper {per}",
    "analytic_flops": "2N FLOPs\nper {per}",
}


def shown(column: Column, cell: Cell) -> str:
    """A cell as text: a size with its prefix, an accuracy in percent, a score with its standard error."""
    if math.isnan(cell.value):
        return DASH
    if column.unit.prefixes:
        return _with_prefix(cell.value, column.unit.prefixes)
    if column.key == "accuracy":
        error = "" if math.isnan(cell.error) else f" ±{100 * cell.error:.1f}"
        return f"{100 * cell.value:.1f}%{error}"
    return f"{_digits(cell.value)}{f' ±{_two_digits(cell.error)}' if math.isfinite(cell.error) else ''}"


def _two_digits(value: float) -> str:
    return _with_prefix(float(f"{value:.2g}"), "kMGT")


def _digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e4:
        return _with_prefix(value, "kMGT")
    if abs(value) < 0.1:
        return f"{value:.3g}"
    return f"{value:.{3 - max(0, math.floor(math.log10(abs(value))))}f}"


def _with_prefix(value: float, prefixes: str) -> str:
    for prefix, size in zip(reversed(prefixes), (1e12, 1e9, 1e6, 1e3), strict=True):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.4g}{prefix}" if abs(value) >= 999.5 * size else f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def visible_columns(grid: Grid, group: Group) -> list[Column]:
    """The comparable columns in which a group has a value."""
    return [
        column
        for column, cells in grid.cells[group].items()
        if not column.measured and any(not math.isnan(cell.value) for cell in cells)
    ]


def measured_lines(grid: Grid, group: Group) -> tuple[list[int], list[list[str]]]:
    """The measured values, below each other: the rows that have any, and title, unit and values of each column."""
    members = [j for j, row in enumerate(grid.groups[group]) if row.measured]
    lines = [
        [column.title, column.unit.shown, *(shown(column, cells[j]) for j in members)]
        for column, cells in grid.cells[group].items()
        if column.measured and any(cells[j].missing != NOT_MEASURED for j in members)
    ]
    return (members, lines) if lines else ([], [])


def notes(grid: Grid, group: Group) -> list[str]:
    """Why a group has dashes, how its costs relate to each other, and the sources of its figures."""
    reasons: dict[str, list[str]] = {}
    for column, cells in grid.cells[group].items():
        for reason in dict.fromkeys(cell.missing for cell in cells):
            if reason not in ("", NOT_MEASURED, COUNTED) and not reason.startswith(OFF_TASK):
                reasons.setdefault(reason, []).append(column.full_title)
    sources = dict.fromkeys(part for row in grid.groups[group] for part in row.source.split("; "))
    return [
        *(f"{DASH} {', '.join(titles)}: {reason}" for reason, titles in reasons.items()),
        *efficiency_misnomer(grid.groups[group]).lines(),
        f"source: {'; '.join(sources)}",
    ]


def heading(grid: Grid, group: Group, column: Column) -> str:
    """The heading of a column, on two lines."""
    return _HEADINGS.get(column.key, f"\n{column.title}").format(per=grid.groups[group][0].per)


def legend(grid: Grid) -> str:
    """The units, and the convention by which every row is formed."""
    comparable = (column for column in grid.columns if not column.measured and not column.unit.prefixes)
    units = [
        f"{column.title} {column.unit.shown}" for column in comparable if column.unit.shown not in ("1", "fraction")
    ]
    return f"{'; '.join(units)}. {CONVENTION}"
