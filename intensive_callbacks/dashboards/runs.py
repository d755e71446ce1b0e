"""Offline W&B runs read from disk: history, tables and name.

The file is read by wandb's own ``wandb leet inspect``, which skips damaged parts and an incomplete end, and reports
them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intensive_callbacks import cards

_STEPS = ("trainer/global_step", "_step")
_OURS = ("intensive/", "routing/", "routing_by_layer/")


@dataclass
class RunRecord:
    """What an offline run holds.

    Attributes:
        name: its display name, else its id, else its folder's name.
        rows: its history: ``step`` and the values of our keys and of registered cards.
        tables: the last version of each table, by key; each row maps columns to values.
        notes: what could not be read, as sentences.
    """

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> dict[str, str]:
        """Take one record of the file; returns the paths of the tables that it names, by key."""
        if entry["type"] == "run":
            self.name = entry["run"].get("display_name") or entry["run"].get("run_id") or self.name
        if entry["type"] != "history":
            return {}
        item = entry["history"].get("item", {})
        values = {key: value for key, value in item.items() if _is_ours(key) and isinstance(value, int | float)}
        step = next((item[key] for key in _STEPS if key in item), None)
        if values and step is not None:
            self.rows.append({"step": step, **values})
        return {key.removesuffix(".path"): item[key] for key in item if key.endswith(".path")}


def read_run(folder: str | Path) -> RunRecord:
    """Read an offline run: its folder, or the ``.wandb`` file in it.

    Raises:
        FileNotFoundError: if there is no ``.wandb`` file; the message names the folder.
    """
    path = _file(Path(folder))
    record = RunRecord(name=path.parent.name)
    paths: dict[str, str] = {}
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", str(path), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8") as reader:  # noqa: S603  # our own interpreter
            for line in reader.stdout or ():
                paths |= record.add(json.loads(line))
        errors.seek(0)
        record.notes.extend(f"{record.name}: {line.rpartition('inspect: ')[2].strip()}" for line in errors)
    for key, table in paths.items():
        _read_table(path.parent / "files" / table, key, record)
    if not record.rows:
        record.notes.append(f"{record.name}: no values of intensive_callbacks were found")
    return record


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("*.wandb"))
    if not files:
        raise FileNotFoundError(f"no .wandb file in {path}; expected a run's folder such as wandb/offline-run-…")
    return files[0]


def _is_ours(key: str) -> bool:
    return key.startswith(_OURS) or cards.registered_class(key) is not None


def _read_table(path: Path, key: str, record: RunRecord) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record.tables[key] = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        record.notes.append(f"{record.name}: the table {key} could not be read ({error})")
