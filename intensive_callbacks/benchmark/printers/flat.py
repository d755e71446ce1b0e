"""The table as one flat list of rows, for W&B, CSV and data frames.

Titled columns are for people and charts. The last column holds each row's record, by key, from which
:mod:`intensive_callbacks.benchmark.records` reads the row back exactly.
"""

from __future__ import annotations

import csv
import io
import math
import re
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.columns import COUNTED, NOT_MEASURED
from intensive_callbacks.benchmark.records import RECORD, to_text
from intensive_callbacks.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from intensive_callbacks.benchmark.grid import Cell, Column, Grid
    from intensive_callbacks.benchmark.row import BenchmarkRow

TEXT = ("model", "task", "protocol")
FIGURES = ("accuracy standard error", "examples", "accuracy of chance", "training tokens", "FLOPs per")
WORDS = ("best in", "undefined", "source", RECORD)
ACCURACY = "accuracy"
# Spreadsheets take the full-width and small forms of a sign, too, and pass over what is not seen before it.
_FORMULA = re.compile("[\\s\u200c\u200d]*[=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b]|[\t\n]")


def columns_of(grid: Grid) -> list[str]:
    """The title of each column, with its unit; where a score has a standard error, "± score" follows it."""
    numbers: list[str] = []
    for column in grid.columns:
        numbers.append(titled(column))
        if _has_errors(grid, column):
            numbers.append(f"± {column.full_title}")
    return [*TEXT, *numbers, *FIGURES, *WORDS]


def titled(column: Column) -> str:
    """The title of a column in a flat table, with the unit of its cells."""
    return f"{column.full_title} ({column.unit.shown})" if column.unit.shown != "1" else column.full_title


def _has_errors(grid: Grid, column: Column) -> bool:
    # The accuracy's has always been among the figures.
    cells = (cell for by_column in grid.cells.values() for cell in by_column[column])
    return column.key != ACCURACY and any(math.isfinite(cell.error) for cell in cells)


def rows_of(grid: Grid) -> list[list[str | float | None]]:
    """Plain cells in the units of :func:`columns_of`, ``None`` where a value is undefined."""
    with_errors = {column for column in grid.columns if _has_errors(grid, column)}
    plain: list[list[str | float | None]] = []
    for group, members in grid.groups.items():
        best = {column: grid.best(group, column) for column in grid.columns}
        for i, row in enumerate(members):
            cells = {column: by_row[i] for column, by_row in grid.cells[group].items()}
            numbers: list[float | None] = []
            for column, cell in cells.items():
                numbers.append(_plain(cell.value / column.unit.factor))
                if column in with_errors:
                    numbers.append(_plain(cell.error / column.unit.factor))
            won = ", ".join(column.full_title for column, places in best.items() if i in places)
            plain.append(
                [row.model, *row.group, *numbers, *_figures(row), won, _reasons(cells), row.source, to_text(row)]
            )
    return plain


def _figures(row: BenchmarkRow) -> list[str | float | None]:
    return [_plain(row.accuracy_error), row.num_examples, row.random_baseline, row.num_tokens, row.per]


def _reasons(cells: Mapping[Column, Cell]) -> str:
    """Why each undefined value of a row is undefined, such as ``P3, P2F: active parameters not given``."""
    titles: dict[str, list[str]] = {}
    for column, cell in cells.items():
        if cell.missing not in ("", NOT_MEASURED, COUNTED):
            titles.setdefault(cell.missing, []).append(column.full_title)
    return "; ".join(f"{', '.join(of_reason)}: {reason}" for reason, of_reason in titles.items())


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_csv(grid: Grid) -> str:
    """Comma-separated values in which no cell is a formula or controls a terminal."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([_inert(title) for title in columns_of(grid)])
    for cells in rows_of(grid):
        writer.writerow(["" if cell is None else _inert(cell) if isinstance(cell, str) else cell for cell in cells])
    return lines.getvalue()


def _inert(text: str) -> str:
    """``text`` as a spreadsheet and a terminal may read it: an apostrophe keeps it from being taken for a formula."""
    text = re.sub(r"[^\t\n]+", lambda part: printable(part[0], limit=len(text)), text)
    return f"'{text}" if _FORMULA.match(text) else text


def to_dataframe(grid: Grid) -> pd.DataFrame:
    """A pandas data frame of :func:`rows_of`."""
    import pandas as pd

    return pd.DataFrame(rows_of(grid), columns=columns_of(grid))
