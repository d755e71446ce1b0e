"""The table as JSON: everything by key, in base units."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from intensive_callbacks.benchmark.layout import CONVENTION
from intensive_callbacks.benchmark.misnomer import efficiency_misnomer
from intensive_callbacks.benchmark.records import RECORD, as_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intensive_callbacks.benchmark.grid import Cell, Grid, Group
    from intensive_callbacks.benchmark.row import BenchmarkRow


def to_json(grid: Grid) -> str:
    """The groups, each with its rows; a cell has its value, standard error and the reason why it is undefined.

    ``cells`` holds the comparable columns and ``measured`` what the row's own run measured, both by key; ``columns``
    has the title and unit of each key, and ``record`` the row as it is read back.
    """
    groups = [
        {"task": group[0], "protocol": group[1], "rows": list(_rows(grid, group)), **_misnomer(members)}
        for group, members in grid.groups.items()
    ]
    columns = {column.key: {"title": column.title, "unit": column.unit.base} for column in grid.columns}
    return json.dumps({"convention": CONVENTION, "columns": columns, "groups": groups}, indent=1)


def _rows(grid: Grid, group: Group) -> Iterator[dict[str, Any]]:
    best = {column: grid.best(group, column) for column in grid.columns}
    for i, row in enumerate(grid.groups[group]):
        cells: dict[str, dict[str, Any]] = {"cells": {}, "measured": {}}
        for column, by_row in grid.cells[group].items():
            if not column.measured or column.key in row.measured:
                kind = "measured" if column.measured else "cells"
                cells[kind][column.key] = _cell(by_row[i], best=i in best[column])
        yield {"model": row.model, "source": row.source, "flops_per": row.per, **cells, RECORD: as_record(row)}


def _cell(cell: Cell, *, best: bool) -> dict[str, Any]:
    value = cell.value if math.isfinite(cell.value) else None
    plain: dict[str, Any] = {"value": value}
    if math.isfinite(cell.error):
        plain["standard_error"] = cell.error
    if value is None:
        plain["missing"] = cell.missing or f"{cell.value}"
    if best:
        plain["best"] = True
    return plain


def _misnomer(members: list[BenchmarkRow]) -> dict[str, Any]:
    found = efficiency_misnomer(members)
    correlation = found.size_correlation
    return {"pareto": found.pareto, "p3_size_correlation": None if math.isnan(correlation) else correlation}
