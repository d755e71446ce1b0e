"""The files of ``dashboards/``, loaded and filled.

A chart's file is Vega-Lite, written by hand, which a Vega-Lite editor draws as it is: at its end stand a few sample
rows under ``datasets``, which :func:`load` leaves out. A name that begins with ``@`` is a placeholder, filled from
:mod:`intensive_callbacks.dashboards.placeholders`: ``{"name": "@cards"}`` becomes ``{"values": [...]}``, and a list
whose first item is ``"@columns"`` becomes the columns' names. ``${field:...}`` and ``${string:...}`` are W&B's own: it
puts the table's columns and the chart's settings there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from intensive_callbacks.dashboards.placeholders import tables

_PACKAGE = Path(__file__).parents[1]


def load(name: str) -> dict[str, Any]:
    """The dashboard of this name, from the installed package or from the repository, with its placeholders filled.

    Raises:
        KeyError: if there is no such file, or an unknown placeholder in it; the message lists those there are.

    Example:
        >>> load("overview")["data"]
        {'name': 'wandb'}
    """
    content = json.loads(_path(name).read_text(encoding="utf-8"))
    content.pop("datasets", None)
    filled: dict[str, Any] = _fill(content, tables())
    return filled


def _path(name: str) -> Path:
    shipped = _PACKAGE / "_dashboards"
    folder = shipped if shipped.is_dir() else _PACKAGE.parent / "dashboards"
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
        raise KeyError(f"no dashboard is called {name!r}; there are {known}")
    return path


def _fill(node: Any, rows: dict[str, list[dict[str, Any]]]) -> Any:
    if isinstance(node, dict):
        if _is_placeholder(node.get("name")):
            return {"values": _rows(node["name"], rows)}
        return {key: _fill(value, rows) for key, value in node.items()}
    if isinstance(node, list):
        if node and _is_placeholder(node[0]):
            return [row["column"] for row in _rows(node[0], rows)]
        return [_fill(item, rows) for item in node]
    return node


def _rows(placeholder: str, rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    if placeholder not in rows:
        raise KeyError(f"unknown placeholder {placeholder!r} in a dashboard; there are {', '.join(rows)}")
    return rows[placeholder]


def _is_placeholder(node: Any) -> bool:
    return isinstance(node, str) and node.startswith("@")
