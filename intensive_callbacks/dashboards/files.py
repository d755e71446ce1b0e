from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from intensive_callbacks.dashboards.presets import PRESETS
from intensive_callbacks.dashboards.workspace import workspace

_PACKAGE = Path(__file__).parents[1]


def generated() -> dict[str, str]:
    """What ``dashboards/`` holds: the text of each file by its path from the repository's top.

    Building the workspace needs the extra ``workspace``.
    """
    contents = {**{name: preset.build() for name, preset in PRESETS.items()}, "workspace": workspace()}
    return {f"dashboards/{name}.json": _text(content) for name, content in contents.items()}


def load(name: str) -> dict[str, Any]:
    """The dashboard file of this name, from the installed package or from the repository.

    Raises:
        KeyError: if there is no such file; the message lists those there are.

    Example:
        >>> load("overview")["data"]
        {'name': 'wandb'}
    """
    shipped = _PACKAGE / "_dashboards"
    folder = shipped if shipped.is_dir() else _PACKAGE.parent / "dashboards"
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
        raise KeyError(f"no dashboard is called {name!r}; there are {known}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
