"""Rows from W&B runs: the ``final_benchmark`` table that the callback logged, read back."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from intensive_callbacks import cards
from intensive_callbacks.benchmark.columns import amount_columns
from intensive_callbacks.benchmark.grid import MEASURED
from intensive_callbacks.benchmark.printers.flat import ACCURACY, titled
from intensive_callbacks.benchmark.records import RECORD, is_number, row_of_text
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.dashboards.runs import given_name
from intensive_callbacks.sinks.wandb import BENCHMARK_KEY, download_table
from intensive_callbacks.untrusted import read_json

# Tables that were logged before each row had its record have titles alone.
_BY_TITLE = {titled(column): column for column in amount_columns()}
_PLAIN = {
    "model": "model",
    "task": "task",
    "protocol": "protocol",
    "source": "source",
    "examples": "num_examples",
    "accuracy of chance": "random_baseline",
    "training tokens": "num_tokens",
    "FLOPs per": "per",
}


def load_run(path: str | Path) -> BenchmarkRow:
    """The model of a W&B run, as its final table has it.

    Args:
        path: the folder of an offline run (``wandb/offline-run-…``) or of an online one's local files, or a folder with
            just one run below it.

    Returns:
        The run's own row as it was logged, with measured values and standard errors by key. Where the user named the
        run, that name follows the model's.

    Raises:
        FileNotFoundError: if the folder has no final table: the run did not finish, or its callback logged none.
        ValueError: if it holds several runs, or the table cannot be read.
    """
    files = sorted(Path(path).rglob("files/media/table/final_benchmark_*.table.json"), key=_step)
    runs = sorted({str(file.parents[3]) for file in files})
    if not runs:
        raise FileNotFoundError(
            f"no final_benchmark table below {path}: give the folder of a run (wandb/offline-run-…) that ended and "
            "whose callback logged the table"
        )
    if len(runs) > 1:
        raise ValueError(f"{path} holds {len(runs)} runs, name one of them: {', '.join(runs)}")
    row = row_of_table(read_json(files[-1], within=Path(path)), str(files[-1]))
    name = given_name(runs[0])
    return row if name in ("", row.model) else replace(row, model=f"{row.model} ({name})")


def load_online_run(path: str) -> BenchmarkRow:
    """The model of a W&B run on the server, as its final table has it.

    Args:
        path: ``entity/project/run``.

    Raises:
        FileNotFoundError: if there is no such run, or it has no final table.
        ValueError: if the table cannot be read.
    """
    return row_of_table(download_table(path, BENCHMARK_KEY), path)


def _step(file: Path) -> tuple[int, float]:
    """W&B numbers a table by the step at which it was logged."""
    step = re.match(r"final_benchmark_(\d+)_", file.name)
    return int(step[1][:18]) if step else -1, file.lstat().st_mtime


def row_of_table(table: Any, place: str) -> BenchmarkRow:
    """The first row of a logged table, which is the run's own.

    Args:
        table: the table as W&B stores it, with ``columns`` and ``data``.
        place: where it was found, for messages.

    Raises:
        ValueError: if it is no benchmark table, or a figure in it cannot be true.
    """
    columns, data = (table.get("columns"), table.get("data")) if isinstance(table, dict) else (None, None)
    if not (isinstance(columns, list) and isinstance(data, list) and data and isinstance(data[0], list)):
        raise ValueError(f"{place} is not a W&B table with columns and data")
    cells = dict(zip(map(str, columns), data[0], strict=False))
    return row_of_text(cells[RECORD], place) if RECORD in cells else _row_of_titles(cells, place)


def _row_of_titles(cells: dict[str, Any], place: str) -> BenchmarkRow:
    absent = [name for name in ("model", "task", "protocol", "source", "accuracy (fraction)") if name not in cells]
    if absent:
        raise ValueError(f"{place} is not a final_benchmark table: it lacks {', '.join(absent)}")
    known: dict[str, Any] = {field: cells.get(title) for title, field in _PLAIN.items()}
    try:
        for title, column in _BY_TITLE.items():
            value = _number(title, cells.get(title))
            known[column.key] = None if value is None else value * column.unit.factor
        if known["per"] == "token":  # those tables had 2 x active parameters there, whatever was counted
            known["num_flops"] = None
        known[ACCURACY] = math.nan if known[ACCURACY] is None else known[ACCURACY]
        measured = {_key(title): value for title, value in cells.items() if MEASURED in title and is_number(value)}
        return BenchmarkRow(**known, measured=measured)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _number(title: str, value: Any) -> float | None:
    if value is None:
        return None
    if not is_number(value):
        raise ValueError(f"{title} must be a number, got {value!r}")
    return float(value)


def _key(title: str) -> str:
    """The key behind a column such as ``CES measured (fraction)``."""
    symbol = title.rpartition(MEASURED)[0]
    return next((card.key for card in cards.CARDS if card.symbol == symbol), symbol)
