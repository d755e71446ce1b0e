"""What stands in the printed table: how a cell is written, which columns a group shows, what is said below it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.columns import MEASURED, NOT_MEASURED, OFF_TASK, Cell, Column
from intensive_callbacks.benchmark.misnomer import efficiency_misnomer

if TYPE_CHECKING:
    from intensive_callbacks.benchmark.table import BenchmarkTable

CONVENTION = (
    "One convention for every row: P3 is per active parameter; FLOPs are 2 x active parameters per token, or counted "
    "(1 MAC = 2) per example; weights are in the format released or scored. ± is one standard error; bold the best of "
    "a group."
)
DASH = "—"


def shown(column: Column, cell: Cell) -> str:
    """A cell as a reader wants it."""
    if math.isnan(cell.value):
        return DASH
    if column.prefixes:
        return _with_prefix(cell.value * 1e9, column.prefixes)
    if column.title == "accuracy":
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


def visible_columns(table: BenchmarkTable, group: tuple[str, str]) -> list[int]:
    """The columns beside each other: what a group has any value of, less what was measured."""
    return [
        i
        for i, (column, cells) in enumerate(zip(table.numbers, table.cells[group], strict=True))
        if not column.title.endswith(MEASURED) and any(not math.isnan(cell.value) for cell in cells)
    ]


def measured_lines(table: BenchmarkTable, group: tuple[str, str]) -> tuple[list[int], list[list[str]]]:
    """What was measured, below each other: the rows that have it, and symbol, unit and values of each metric."""
    members = [j for j, row in enumerate(table.groups[group]) if row.measured]
    lines = [
        [column.title.removesuffix(MEASURED), column.unit, *(shown(column, cells[j]) for j in members)]
        for column, cells in zip(table.numbers, table.cells[group], strict=True)
        if column.title.endswith(MEASURED) and any(cells[j].missing != NOT_MEASURED for j in members)
    ]
    return (members, lines) if lines else ([], [])


def notes(table: BenchmarkTable, group: tuple[str, str]) -> list[str]:
    """Why a group has dashes, what its costs say about each other, and where its figures come from."""
    reasons: dict[str, list[str]] = {}
    for column, cells in zip(table.numbers, table.cells[group], strict=True):
        for reason in dict.fromkeys(cell.missing for cell in cells):
            if reason not in ("", NOT_MEASURED) and not reason.startswith(OFF_TASK):
                reasons.setdefault(reason, []).append(column.title)
    sources = dict.fromkeys(part for row in table.groups[group] for part in row.source.split("; "))
    return [
        *(f"{DASH} {', '.join(titles)}: {reason}" for reason, titles in reasons.items()),
        *efficiency_misnomer(table.groups[group]).lines(),
        f"source: {'; '.join(sources)}",
    ]


def heading(table: BenchmarkTable, group: tuple[str, str], place: int) -> str:
    """What stands above a column, on two lines."""
    title = table.numbers[place].title
    per = table.groups[group][0].per
    words = {"total params": "total\nparams", "active params": "active\nparams", "weights": "weights\nbytes"}
    return f"FLOPs\nper {per}" if title == "FLOPs" else words.get(title, f"\n{title}")


def legend(table: BenchmarkTable) -> str:
    """The units, and the convention by which every row is formed."""
    comparable = (column for column in table.numbers if not column.prefixes and not column.title.endswith(MEASURED))
    units = [f"{column.title} {column.unit}" for column in comparable if column.unit not in ("1", "fraction")]
    return f"{'; '.join(units)}. {CONVENTION}"


def printable(text: str) -> str:
    """``text`` on one line, without the control characters that would drive a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+", " ", text)
