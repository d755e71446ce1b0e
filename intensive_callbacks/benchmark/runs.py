"""Rows from W&B runs: the ``final_benchmark`` table that the callback logged, read back."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from intensive_callbacks.benchmark.columns import MEASURED
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.cards import CARDS
from intensive_callbacks.sinks.wandb import BENCHMARK_KEY, download_table

MAX_BYTES = 50_000_000
_BILLIONS = {
    "total params (B)": "total_params",
    "active params (B)": "active_params",
    "weights (GB)": "num_bytes",
    "FLOPs (GFLOP)": "num_flops",
}
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
        The run's own row, with what was measured.

    Raises:
        FileNotFoundError: if the folder holds no final table: the run did not end, or had no callback or no table.
        ValueError: if it holds several runs, or the table cannot be read.
    """
    files = sorted(Path(path).rglob("files/media/table/final_benchmark_*.table.json"), key=_step)
    runs = sorted({str(file.parents[3]) for file in files})
    if not runs:
        raise FileNotFoundError(
            f"no final_benchmark table below {path}: give the folder of a run (wandb/offline-run-…) that ended and "
            "whose callback made the table"
        )
    if len(runs) > 1:
        raise ValueError(f"{path} holds {len(runs)} runs, name one of them: {', '.join(runs)}")
    return row_of_table(_read(files[-1]), str(files[-1]))


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
    return int(step[1]) if step else -1, file.stat().st_mtime


def _read(file: Path) -> Any:
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes; a benchmark table has at most {MAX_BYTES:,}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error


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
    absent = [name for name in ("model", "task", "protocol", "source", "accuracy (fraction)") if name not in cells]
    if absent:
        raise ValueError(f"{place} is not a final_benchmark table: it lacks {', '.join(absent)}")
    accuracy = cells["accuracy (fraction)"]
    known: dict[str, Any] = {field: cells.get(title) for title, field in _PLAIN.items()}
    try:
        known |= {field: _billions(title, cells.get(title)) for title, field in _BILLIONS.items()}
        return BenchmarkRow(
            accuracy=math.nan if accuracy is None else accuracy,
            measured={_key(title): value for title, value in cells.items() if _is_measured(title, value)},
            **known,
        )
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _billions(title: str, value: Any) -> float | None:
    if value is not None and not _is_number(value):
        raise ValueError(f"{title} must be a number, got {value!r}")
    return None if value is None else value * 1e9


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_measured(title: str, value: Any) -> bool:
    return MEASURED in title and _is_number(value)


def _key(title: str) -> str:
    """The key behind a column such as ``CES measured (fraction)``."""
    name = title.rpartition(MEASURED)[0]
    return next((described.key for described in CARDS if described.symbol == name), name)
