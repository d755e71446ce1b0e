"""Offline W&B runs read from disk: history, tables and name.

The file is read by wandb's own ``wandb leet inspect``, which skips damaged parts and an incomplete end, and reports
them. What it says is a stranger's: names and values are cut to size, and tables are read from the run's folder alone.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intensive_callbacks import cards
from intensive_callbacks.untrusted import MAX_BYTES, printable, read_json, reason, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ROWS = 50_000
MAX_KEYS = 2_000
MAX_TABLE_ROWS = 20_000
MAX_KEY_LENGTH = 200
_SECONDS = 60
_STEPS = ("trainer/global_step", "_step")
_OURS = ("intensive/", "routing/", "routing_by_layer/")
_TABLES = ("intensive_overview_table", "routing_heatmap_table", "final_benchmark")


@dataclass
class RunRecord:
    """What an offline run holds.

    Attributes:
        name: its display name, else its id, else its folder's name.
        rows: its history: ``step`` and the values of our keys and of registered cards, without a logger's prefix.
        tables: the last version of each table, by key; each row maps columns to values.
        notes: what could not be read, as sentences.
    """

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, entry: Any) -> dict[str, str]:
        """Take one record of the file; returns the paths of the tables that it names, by key."""
        kind = entry.get("type") if isinstance(entry, dict) else None
        content = entry.get(kind) if kind in ("run", "history") else None
        if not isinstance(content, dict):
            return {}
        if kind == "run":
            self.name = short_name(content.get("display_name") or content.get("run_id") or self.name)
            return {}
        item = content.get("item")
        return self._add_history(item) if isinstance(item, dict) else {}

    def _add_history(self, item: dict[str, Any]) -> dict[str, str]:
        named = {_ours(key): value for key, value in item.items()}
        values = {key: value for key, value in named.items() if key and _is_finite(value)}
        step = next((value for key in _STEPS if _is_finite(value := _logged(item, key))), None)
        if values and step is not None:
            self.rows.append({"step": step, **dict(list(values.items())[:MAX_KEYS])})
        paths = {key.removesuffix(".path"): path for key, path in item.items() if key.endswith(".path")}
        return {table: path for key, path in paths.items() for table in _TABLES if _without_prefix(key, (table,))}


def read_run(folder: str | Path) -> RunRecord:
    """Read an offline run: its folder, or the ``.wandb`` file in it.

    Raises:
        FileNotFoundError: if there is no ``.wandb`` file; the message names the folder.
        ValueError: if the file is no regular file, or too large.
    """
    path = _file(Path(folder))
    record = RunRecord(name=short_name(path.parent.name))
    paths: dict[str, str] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        for line in _inspected(path, errors):
            paths |= record.add(_parsed(line))
            if len(record.rows) == MAX_ROWS:
                record.notes.append(f"{record.name}: more than {MAX_ROWS:,} rows; the rest was left out")
                break
        errors.seek(0)
        told = [line.rpartition("inspect: ")[2].strip() for line in errors.read(10_000).splitlines()]
        record.notes.extend(f"{record.name}: {printable(line)}" for line in told[:20])
    for key, table in paths.items():
        _read_table(path.parent / "files", table, key, record)
    if not record.rows:
        record.notes.append(f"{record.name}: no values of intensive_callbacks were found")
    return record


def given_name(folder: str | Path) -> str:
    """The name that its user gave an offline run; empty where there is none, or no ``.wandb`` file that tells it."""
    try:
        path = _file(Path(folder))
    except (OSError, ValueError):
        return ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        for line in _inspected(path, errors):
            entry = _parsed(line)
            run = entry.get("run") if isinstance(entry, dict) else None
            if isinstance(run, dict):
                return short_name(run.get("display_name") or "")
    return ""


def _file(path: Path) -> Path:
    files = [path] if path.suffix == ".wandb" and not path.is_dir() else sorted(path.glob("*.wandb"))
    if path.is_file():
        files = [path]
    if not files:
        raise FileNotFoundError(f"no .wandb file in {path}; expected a run's folder such as wandb/offline-run-…")
    file = files[0].resolve()
    if not files[0].exists():
        raise FileNotFoundError(f"there is no file {files[0]}; expected a run's folder such as wandb/offline-run-…")
    if not file.is_file() or (path.is_dir() and not file.is_relative_to(path.resolve())):
        raise ValueError(f"{files[0]} is not a regular file in the run's folder")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{files[0]} has more than {MAX_BYTES:,} bytes")
    return file


def _inspected(path: Path, errors: Any) -> Iterator[str]:
    """The lines of ``wandb leet inspect``, for at most a minute."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(path), "--json"]
    with subprocess.Popen(  # noqa: S603  # our own interpreter
        command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8", errors="replace"
    ) as reader:
        clock = threading.Timer(_SECONDS, reader.kill)
        clock.start()
        try:
            yield from reader.stdout or ()
        finally:
            clock.cancel()
            reader.kill()


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None  # what wandb could not read, it says itself


def _logged(item: dict[str, Any], key: str) -> Any:
    """A value that Lightning logged under this key, with or without a prefix."""
    return item.get(key, next((value for other, value in item.items() if other.endswith(f"-{key}")), None))


def _without_prefix(key: str, beginnings: tuple[str, ...]) -> str:
    """The part of the key that begins so, where Lightning's ``prefix-`` or nothing stands before it."""
    if key.startswith(beginnings):
        return key
    places = [place + 1 for place in range(len(key)) if key[place] == "-" and key.startswith(beginnings, place + 1)]
    return key[places[0] :] if places else ""


def _ours(key: str) -> str:
    """The key without its logger's prefix, if it is one of ours."""
    if len(key) > MAX_KEY_LENGTH:
        return ""
    if cards.registered_class(key) is not None:
        return key
    ours = _without_prefix(key, _OURS)
    if ours:
        return printable(ours)
    rest = key.partition("-")[2]
    return rest if rest and cards.registered_class(rest) is not None else ""


def _is_finite(value: Any) -> bool:
    """Whether a chart can show it: a number, and none too large for a float."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _read_table(folder: Path, path: Any, key: str, record: RunRecord) -> None:
    try:
        if not isinstance(path, str) or "\0" in path:
            raise ValueError(f"its path is {printable(path, 80)!r}")  # noqa: TRY301
        content = read_json(folder / path, within=folder)
        rows = content["data"][: MAX_TABLE_ROWS + 1]
        columns = [short_name(column) for column in content["columns"]]
        record.tables[key] = [dict(zip(columns, map(_cell, row), strict=True)) for row in rows[:MAX_TABLE_ROWS]]
        if len(rows) > MAX_TABLE_ROWS:
            record.notes.append(f"{record.name}: the table {key} was cut after {MAX_TABLE_ROWS:,} rows")
    except (OSError, ValueError, KeyError, TypeError) as error:
        record.notes.append(f"{record.name}: the table {key} could not be read ({reason(error)})")


def _cell(value: Any) -> Any:
    """What a chart can show of a cell: a number or a short text."""
    if isinstance(value, str):
        return printable(value, 1000)
    return value if isinstance(value, bool) or _is_finite(value) else None
