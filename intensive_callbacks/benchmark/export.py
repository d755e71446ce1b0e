"""The benchmark table as text: for a terminal, Markdown, CSV and JSON. A row's strings are data and stay text."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.columns import MEASURED, NOT_MEASURED, OFF_TASK, Cell, Column
from intensive_callbacks.benchmark.misnomer import efficiency_misnomer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group as RichGroup
    from rich.table import Table as RichTable

    from intensive_callbacks.benchmark.row import BenchmarkRow
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
    return _digits(cell.value)


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


def _visible(table: BenchmarkTable, group: tuple[str, str]) -> list[int]:
    """The columns beside each other: what a group has any value of, less what was measured."""
    return [
        i
        for i, (column, cells) in enumerate(zip(table.numbers, table.cells[group], strict=True))
        if not column.title.endswith(MEASURED) and any(not math.isnan(cell.value) for cell in cells)
    ]


def _measured(table: BenchmarkTable, group: tuple[str, str]) -> tuple[list[int], list[list[str]]]:
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


def to_rich(table: BenchmarkTable) -> RichGroup:
    """One table per group; best values bold, dashes explained below."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RichTable | Padding | Text] = []
    for group in table.groups:
        said = Text("\n".join(map(_printable, notes(table, group))), style="dim")
        parts += [_rich_scores(table, group), *_rich_measured(table, group), Padding(said, (0, 0, 1, 0))]
    return Group(*parts, Text(_legend(table), style="dim"))


def _rich_scores(table: BenchmarkTable, group: tuple[str, str]) -> RichTable:
    from rich.table import Table
    from rich.text import Text

    title = Text(" · ".join(map(_printable, group)))
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    grid.add_column("\nmodel", overflow="fold", min_width=16)
    visible = _visible(table, group)
    for i in visible:
        grid.add_column(_heading(table, group, i), justify="right", no_wrap=True)
    best = {i: table.best_places(group, i) for i in visible}
    for j, row in enumerate(table.groups[group]):
        cells = [
            Text(shown(table.numbers[i], table.cells[group][i][j]), style="bold green" if j in best[i] else "")
            for i in visible
        ]
        grid.add_row(Text(_printable(row.model)), *cells)
    return grid


def _rich_measured(table: BenchmarkTable, group: tuple[str, str]) -> Iterator[RichTable]:
    from rich.table import Table
    from rich.text import Text

    members, lines = _measured(table, group)
    if not members:
        return
    grid = Table(box=None, pad_edge=False)
    grid.add_column("\nmeasured")
    for j in members:
        grid.add_column(Text(f"\n{_printable(table.groups[group][j].model)}"), justify="right")
    grid.add_column("\nunit", style="dim")
    for symbol, unit, *values in lines:
        grid.add_row(Text(symbol), *values, "" if unit == "1" else Text(unit))
    yield grid


def _heading(table: BenchmarkTable, group: tuple[str, str], place: int) -> str:
    title = table.numbers[place].title
    per = table.groups[group][0].per
    words = {"total params": "total\nparams", "active params": "active\nparams", "weights": "weights\nbytes"}
    return f"FLOPs\nper {per}" if title == "FLOPs" else words.get(title, f"\n{title}")


def _legend(table: BenchmarkTable) -> str:
    comparable = (column for column in table.numbers if not column.prefixes and not column.title.endswith(MEASURED))
    units = [f"{column.title} {column.unit}" for column in comparable if column.unit not in ("1", "fraction")]
    return f"{'; '.join(units)}. {CONVENTION}"


def _printable(text: str) -> str:
    """``text`` on one line, without the control characters that would drive a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+", " ", text)


def to_markdown(table: BenchmarkTable) -> str:
    """One table per group; best values bold, dashes explained below."""
    lines: list[str] = []
    for group in table.groups:
        lines += [f"### {' · '.join(map(_markdown, group))}", "", *_markdown_scores(table, group), ""]
        members, measured = _measured(table, group)
        if members:
            models = [table.groups[group][j].model for j in members]
            lines += _markdown_grid(
                ["measured", "unit", *map(_markdown, models)],
                [[_markdown(cell) for cell in line] for line in measured],
                text=2,
            )
            lines.append("")
        lines += [*(f"- {_markdown(note)}" for note in notes(table, group)), ""]
    return "\n".join([*lines, _legend(table), ""])


def _markdown_scores(table: BenchmarkTable, group: tuple[str, str]) -> list[str]:
    visible = _visible(table, group)
    best = {i: table.best_places(group, i) for i in visible}
    rows = []
    for j, row in enumerate(table.groups[group]):
        cells = [(shown(table.numbers[i], table.cells[group][i][j]), j in best[i]) for i in visible]
        rows.append([_markdown(row.model), *(f"**{cell}**" if wins else cell for cell, wins in cells)])
    return _markdown_grid(
        ["model", *(_heading(table, group, i).replace("\n", " ").strip() for i in visible)], rows, text=1
    )


def _markdown_grid(headings: list[str], rows: list[list[str]], text: int) -> list[str]:
    """A Markdown table whose first ``text`` columns are words."""
    rule = "|" + "---|" * text + "---:|" * (len(headings) - text)
    return [f"| {' | '.join(headings)} |", rule, *(f"| {' | '.join(cells)} |" for cells in rows)]


def _markdown(text: str) -> str:
    return (
        re.sub(r"([\\`*_\[\]|])", r"\\\1", _printable(text))
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
