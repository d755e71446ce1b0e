"""Published models, each with its source, read from CSV files; also from a file of your own."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from intensive_callbacks.benchmark.files import MAX_BYTES, read_json
from intensive_callbacks.benchmark.records import RECORD, row_of_record, row_of_text
from intensive_callbacks.benchmark.row import BenchmarkRow

SHIPPED = Path(__file__).with_name("baselines")
TABLES = ("language", "vision", "vision-language", "density")
NEEDED = ("model", "task", "protocol", "source", "accuracy")
NUMBERS = (
    "accuracy",
    "total_params",
    "active_params",
    "num_bytes",
    "num_flops",
    "num_examples",
    "num_tokens",
    "random_baseline",
)
KNOWN = {*NEEDED, *NUMBERS, "per", "featured"}


def load_baselines(which: str | Path) -> list[BenchmarkRow]:
    """Published models, each with the protocol of its score and the source of its figures.

    Args:
        which: ``"language"``, ``"vision"``, ``"vision-language"`` or ``"density"`` for the tables that come with the
            package, or the path of a CSV file with the columns model, task, protocol, source and accuracy (a
            fraction), and as far as they are known total_params, active_params, num_bytes, num_flops, per (token or
            example), num_examples, num_tokens, random_baseline, featured (yes or no). Other columns are ignored. A
            table that :meth:`BenchmarkTable.to_csv` or :meth:`BenchmarkTable.to_json` wrote is read back exactly.

    Returns:
        One row per line. Metrics are computed from its figures, never read.

    Raises:
        FileNotFoundError: if there is no such table or file.
        ValueError: if the file cannot be used; the message names the line and what is wrong with it.

    Example:
        >>> rows = load_baselines("language")
        >>> next(row.active_params for row in rows if row.model == "DeepSeek-V3")
        37552282624.0
    """
    path = SHIPPED / f"{which}.csv" if isinstance(which, str) and which in TABLES else Path(which)
    if not path.is_file():
        raise FileNotFoundError(
            f"no baselines {str(which)!r}: give one of {', '.join(TABLES)} or the path of a CSV file"
        )
    if path.suffix == ".json":
        return rows_of_saved(read_json(path), str(path))
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; a table of baselines has at most {MAX_BYTES:,}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, csv.DictReader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error


def rows_of_saved(table: Any, place: str) -> list[BenchmarkRow]:
    """The rows of a table that :meth:`BenchmarkTable.to_json` wrote.

    Raises:
        ValueError: if it is not such a table, or a figure in it cannot be true; the message names ``place``.
    """
    try:
        records = [row[RECORD] for group in table["groups"] for row in group["rows"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{place} is not a benchmark table as to_json writes it") from error
    return [row_of_record(record, place) for record in records]


def _read(path: Path, lines: csv.DictReader[str]) -> list[BenchmarkRow]:
    if RECORD in (lines.fieldnames or ()):
        return [row_of_text(cells[RECORD], f"{path}, line {lines.line_num}") for cells in lines]
    absent = [name for name in NEEDED if name not in (lines.fieldnames or ())]
    if absent:
        raise ValueError(f"{path} lacks the column {', '.join(absent)}; a table of baselines needs {', '.join(NEEDED)}")
    rows: list[BenchmarkRow] = []
    seen: dict[tuple[str, str, str], int] = {}
    for cells in lines:
        place = f"{path}, line {lines.line_num}"
        try:
            row = _row(cells)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        key = (row.model, *row.group)
        if key in seen:
            raise ValueError(f"{place}: {row.model} on {row.task} ({row.protocol}) is in line {seen[key]} already")
        seen[key] = lines.line_num
        rows.append(row)
    return rows


def _row(cells: dict[str, str | None]) -> BenchmarkRow:
    if None in cells or None in cells.values():
        raise ValueError("expected as many cells as columns; quote cells that contain commas")
    text = {name: (cells.get(name) or "").strip() for name in KNOWN}
    empty = [name for name in NEEDED if not text[name]]
    if empty:
        raise ValueError(f"{', '.join(empty)} must not be empty")
    numbers: dict[str, Any] = {name: _number(name, text[name]) for name in NUMBERS if text[name]}
    if "num_examples" in numbers:
        numbers["num_examples"] = int(numbers["num_examples"])
    return BenchmarkRow(
        model=text["model"],
        task=text["task"],
        protocol=text["protocol"],
        source=text["source"],
        per="example" if _choice("per", text["per"], ("token", "example")) == "example" else "token",
        featured=_choice("featured", text["featured"], ("yes", "no")) == "yes",
        **numbers,
    )


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, got {text!r}")
    if name == "num_examples" and not number.is_integer():
        raise ValueError(f"{name} must be a whole number, got {text!r}")
    return number


def _choice(name: str, text: str, choices: tuple[str, str]) -> str:
    if text and text not in choices:
        raise ValueError(f"{name} must be {' or '.join(choices)}, got {text!r}")
    return text or choices[0]
