"""A row as a record: its figures by field and by key, exactly, as every written table carries them.

What a printer shows follows from the records, so that a table that is read back is the table that was written: values,
standard errors and reasons. Per-example results are kept where the examples are numbered, as those of a run are, in one
bit each; results by other ids are left out for their size.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.untrusted import parse_json

RECORD = "record"
MAX_EXAMPLES = 1_000_000  # 170 kB of text
_FIELDS = [field for field in fields(BenchmarkRow) if field.name != "correct"]
_BY_KEY = ("measured", "measured_errors")
_WORDS = ("model", "task", "protocol", "source", "per", "featured")


def as_record(row: BenchmarkRow) -> dict[str, Any]:
    """The row as plain data for JSON; fields that have their default value are left out."""
    record: dict[str, Any] = {}
    for field in _FIELDS:
        value = getattr(row, field.name)
        if field.name in _BY_KEY:
            value = {key: _plain(number) for key, number in value.items()}
        elif field.name not in _WORDS:
            value = None if value is None or math.isnan(value) else _plain(value)
        if value not in (None, {}, field.default):
            record[field.name] = value
    if row.correct and len(row.correct) <= MAX_EXAMPLES and all(map(_is_place, row.correct, range(len(row.correct)))):
        record["correct"] = _packed(list(row.correct.values()))
    return record


def _is_place(example: Any, place: int) -> bool:
    return isinstance(example, int) and example == place


def _packed(right: list[bool]) -> dict[str, Any]:
    """The results of the examples 0, 1, 2, ... in order."""
    bits = np.packbits(np.array(right, dtype=bool))
    return {"num_examples": len(right), "right": base64.b64encode(bits.tobytes()).decode("ascii")}


def _unpacked(packed: Any) -> dict[int, bool]:
    number = packed.get("num_examples") if isinstance(packed, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MAX_EXAMPLES:
        raise ValueError(f"correct must have num_examples of 1 to {MAX_EXAMPLES:,}, got {packed!r:.80}")
    try:
        data = base64.b64decode(packed.get("right"), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError("correct must have its results in base64") from error
    if len(data) != (number + 7) // 8:
        raise ValueError(f"correct has {len(data)} bytes, expected {(number + 7) // 8} for {number:,} examples")
    return dict(enumerate(np.unpackbits(np.frombuffer(data, np.uint8), count=number).astype(bool).tolist()))


def to_text(row: BenchmarkRow) -> str:
    """The record as one line of JSON."""
    return json.dumps(as_record(row), separators=(",", ":"))


def row_of_text(text: Any, place: str) -> BenchmarkRow:
    """The row whose record this line of JSON is.

    Raises:
        ValueError: if it is not such a record, or a figure in it cannot be true; the message names ``place``.
    """
    if not isinstance(text, str):
        raise ValueError(f"{place}: expected the record as a line of JSON, got {type(text).__name__}")
    return row_of_record(parse_json(text, f"{place}: the record"), place)


def row_of_record(record: Any, place: str) -> BenchmarkRow:
    """The row with this record. Fields that it does not know, such as a later version's, are ignored.

    Raises:
        ValueError: if it is not such a record, or a figure in it cannot be true; the message names ``place``.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected the record as an object, got {type(record).__name__}")
    absent = [field.name for field in _FIELDS if field.default is MISSING and field.name not in (*_BY_KEY, *record)]
    if absent:
        raise ValueError(f"{place}: the record lacks {', '.join(absent)}")
    try:
        known = {field.name: _read(field.name, record[field.name]) for field in _FIELDS if field.name in record}
        return BenchmarkRow(**known, correct=_unpacked(record["correct"]) if "correct" in record else None)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _plain(number: float) -> float | str:
    """A number as JSON can hold it; one that is not finite as a word."""
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    return float(number) if math.isfinite(number) else str(float(number))


def _read(name: str, value: Any) -> Any:
    if name in _BY_KEY:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be numbers by key, got {value!r}")
        return {key: _number(key, number) for key, number in value.items()}
    return bool(value) if name == "featured" else value if name in _WORDS else _number(name, value)


def _number(name: str, value: Any) -> float:
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if not is_number(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return value if math.isfinite(value) else float(value)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
