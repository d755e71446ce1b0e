"""Offline W&B runs read back: history, tables and name, as far as the file goes.

The file is read by wandb's own ``wandb leet inspect``, which steps over damaged stretches and an unfinished end, and
says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_STEPS = ("trainer/global_step", "_step")
_OURS = ("intensive/", "routing/")


@dataclass
class RunRecord:
    """What an offline run holds.

    Attributes:
        name: the name it was given, or else its folder's.
        rows: its history: ``step`` and the finite values of our keys.
        tables: the last version of each table, by key, as rows by column.
        notes: what could not be read, in words.
    """

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_run(folder: str | Path) -> RunRecord:
    """Read an offline run: its folder, or the ``.wandb`` file in it.

    Raises:
        FileNotFoundError: if there is no ``.wandb`` file; the message says where it was looked for.
    """
    path = _file(Path(folder))
    record = RunRecord(name=path.parent.name)
    paths: dict[str, str] = {}
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", str(path), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, encoding="utf-8") as reader:  # noqa: S603  # our own interpreter
            for line in reader.stdout or ():
                _take(json.loads(line), record, paths)
        said.seek(0)
        record.notes += [f"{record.name}: {line.rpartition('inspect: ')[2].strip()}" for line in said]
    for key, table in paths.items():
        _read_table(path.parent / "files" / table, key, record)
    if not record.rows:
        record.notes.append(f"{record.name}: no values of ours were found")
    return record


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("*.wandb"))
    if not files:
        raise FileNotFoundError(f"no .wandb file in {path}; expected a run's folder such as wandb/offline-run-…")
    return files[0]


def _take(entry: dict[str, Any], record: RunRecord, paths: dict[str, str]) -> None:
    if entry["type"] == "run":
        record.name = entry["run"].get("display_name") or entry["run"].get("run_id") or record.name
    elif entry["type"] == "history":
        item = entry["history"].get("item", {})
        values = {key: value for key, value in item.items() if key.startswith(_OURS) and isinstance(value, int | float)}
        step = next((item[key] for key in _STEPS if key in item), None)
        if values and step is not None:
            record.rows.append({"step": step, **values})
        paths.update({key.removesuffix(".path"): item[key] for key in item if key.endswith(".path")})


def _read_table(path: Path, key: str, record: RunRecord) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record.tables[key] = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        record.notes.append(f"{record.name}: the table {key} could not be read ({error})")
