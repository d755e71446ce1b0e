"""Published models, each with its source, read from CSV files; also from a file of your own."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intensive_callbacks.benchmark.files import MAX_BYTES, read_json
from intensive_callbacks.benchmark.records import RECORD, row_of_record, row_of_text
from intensive_callbacks.benchmark.row import BenchmarkRow

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def neighbors(row: BenchmarkRow, published: Iterable[BenchmarkRow], limit: int = 6) -> list[BenchmarkRow]:
    """The published models, of which at most ``limit`` are featured: those nearest to a row in cost and quality.

    They are of the row's task, and of one protocol so that they compare with each other: the row's own if it is among
    them, else the one with the most models near. The distance is that of the logarithms of the active parameters (or of
    the FLOPs, the bytes, where those of the row are not known) and of the log-odds of the accuracies. None is featured
    where no published model has the row's task.

    Args:
        row: the model beside which the others are shown.
        published: such as :func:`load_baselines` gives.
        limit: how many are featured at most.

    Example:
        >>> mine = BenchmarkRow(model="mine", task="MMLU", protocol="5-shot", source="here", accuracy=0.6,
        ...                     active_params=3e9)
        >>> near = [row for row in neighbors(mine, load_baselines("language"), limit=3) if row.featured]
        >>> [row.model for row in near]
        ['Qwen2.5-3B', 'Falcon3-3B', 'Llama-3.2-3B']
    """
    rows = list(published)
    by_protocol: dict[str, list[tuple[float, int]]] = {}
    for place, other in enumerate(rows):
        if other.task == row.task and math.isfinite(distance := _distance(row, other)):
            by_protocol.setdefault(other.protocol, []).append((distance, place))
    nearest = [sorted(members)[:limit] for members in by_protocol.values()]
    if row.protocol in by_protocol:
        nearest = [sorted(by_protocol[row.protocol])[:limit]]
    best = min(nearest, key=lambda members: (-len(members), sum(distance for distance, _ in members)), default=[])
    chosen = {place for _, place in best}
    return [replace(other, featured=place in chosen) for place, other in enumerate(rows)]


def _distance(row: BenchmarkRow, other: BenchmarkRow) -> float:
    """How far apart two models are in cost and quality; infinite where no cost is known of both."""
    costs = (
        math.log(theirs / own)
        for name in ("active_params", "num_flops", "num_bytes")
        if (own := row.facts[name]) and (theirs := other.facts[name])
    )
    cost = next(costs, math.inf)
    quality = _log_odds(other.accuracy) - _log_odds(row.accuracy)
    return math.hypot(cost, 0.0 if math.isnan(quality) else quality)


def _log_odds(accuracy: float) -> float:
    """The log-odds of an accuracy, at most those of one error in a thousand; NaN where there is none."""
    if math.isnan(accuracy):
        return math.nan
    within = min(max(accuracy, 0.001), 0.999)
    return math.log(within / (1 - within))


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
