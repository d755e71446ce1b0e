"""The benchmark table as Markdown, CSV and JSON. A row's strings are data and stay text."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.layout import (
    CONVENTION,
    heading,
    legend,
    measured_lines,
    notes,
    printable,
    shown,
    visible_columns,
)
from intensive_callbacks.benchmark.misnomer import efficiency_misnomer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intensive_callbacks.benchmark.row import BenchmarkRow
    from intensive_callbacks.benchmark.table import BenchmarkTable


def to_markdown(table: BenchmarkTable) -> str:
    """One table per group; best values bold, dashes explained below."""
    lines: list[str] = []
    for group in table.groups:
        lines += [f"### {' · '.join(map(_markdown, group))}", "", *_markdown_scores(table, group), ""]
        members, measured = measured_lines(table, group)
        if members:
            models = [table.groups[group][j].model for j in members]
            lines += _markdown_grid(
                ["measured", "unit", *map(_markdown, models)],
                [[_markdown(cell) for cell in line] for line in measured],
                text=2,
            )
            lines.append("")
        lines += [*(f"- {_markdown(note)}" for note in notes(table, group)), ""]
    return "\n".join([*lines, legend(table), ""])


def _markdown_scores(table: BenchmarkTable, group: tuple[str, str]) -> list[str]:
    visible = visible_columns(table, group)
    best = {i: table.best_places(group, i) for i in visible}
    rows = []
    for j, row in enumerate(table.groups[group]):
        cells = [(shown(table.numbers[i], table.cells[group][i][j]), j in best[i]) for i in visible]
        rows.append([_markdown(row.model), *(f"**{cell}**" if wins else cell for cell, wins in cells)])
    return _markdown_grid(
        ["model", *(heading(table, group, i).replace("\n", " ").strip() for i in visible)], rows, text=1
    )


def _markdown_grid(headings: list[str], rows: list[list[str]], text: int) -> list[str]:
    """A Markdown table whose first ``text`` columns are words."""
    rule = "|" + "---|" * text + "---:|" * (len(headings) - text)
    return [f"| {' | '.join(headings)} |", rule, *(f"| {' | '.join(cells)} |" for cells in rows)]


def _markdown(text: str) -> str:
    return (
        re.sub(r"([\\`*_\[\]|])", r"\\\1", printable(text))
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )


def to_csv(table: BenchmarkTable, path: str | Path | None = None) -> str:
    """Comma-separated values in which no cell is a formula."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([_inert(title) for title in table.columns])
    for cells in table.rows():
        writer.writerow(["" if cell is None else _inert(cell) if isinstance(cell, str) else cell for cell in cells])
    return _written(lines.getvalue(), path)


def _inert(text: str) -> str:
    """``text`` as a spreadsheet reads it: an apostrophe keeps it from being taken for a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r", "\n")) else text


def to_json(table: BenchmarkTable, path: str | Path | None = None) -> str:
    """The groups, each with its rows; a cell has its value, standard error and reason for being undefined."""
    groups = [
        {"task": group[0], "protocol": group[1], "rows": list(_json_rows(table, group)), **_json_misnomer(members)}
        for group, members in table.groups.items()
    ]
    units = {column.title: column.unit for column in table.numbers}
    return _written(json.dumps({"convention": CONVENTION, "units": units, "groups": groups}, indent=1), path)


def _json_rows(table: BenchmarkTable, group: tuple[str, str]) -> Iterator[dict[str, object]]:
    best = [table.best_places(group, i) for i in range(len(table.numbers))]
    for j, row in enumerate(table.groups[group]):
        cells: dict[str, dict[str, object]] = {}
        for i, column in enumerate(table.numbers):
            cell = table.cells[group][i][j]
            value = cell.value if math.isfinite(cell.value) else None
            cells[column.title] = {"value": value}
            if math.isfinite(cell.error):
                cells[column.title]["standard_error"] = cell.error
            if value is None:
                cells[column.title]["missing"] = cell.missing or f"{cell.value}"
            if j in best[i]:
                cells[column.title]["best"] = True
        yield {"model": row.model, "source": row.source, "flops_per": row.per, "cells": cells}


def _json_misnomer(members: list[BenchmarkRow]) -> dict[str, object]:
    said = efficiency_misnomer(members)
    correlation = said.size_correlation
    return {"pareto": said.pareto, "p3_size_correlation": None if math.isnan(correlation) else correlation}


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="")
    return text
