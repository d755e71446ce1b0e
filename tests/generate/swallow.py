"""Scores of the Swallow LLM Leaderboard, whose authors ran every model themselves (data under CC BY 4.0)."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from generate.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = "evaluated by the Swallow LLM Leaderboard"
MODES = {"on": "thinking", "on (medium)": "thinking with medium effort", "N/A": "not thinking"}
# The leaderboard's names of tasks; its GPQA in English is the Diamond subset.
PRE_TRAINED, POST_TRAINED = {"MMLU": "MMLU"}, {"MMLU-Pro": "MMLU-Pro", "GPQA": "GPQA-Diamond"}


def scores(cache: Path) -> Iterator[tuple[str, str, str, str]]:
    """Model, task, protocol, and percent."""
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        names = {row["id"]: row["model"] for row in csv.DictReader(file)}
    for entry in yaml.load(SOURCES["swallow"].text(cache), yaml.BaseLoader):
        if entry["id"] not in names:
            continue
        results = entry["results"]
        found = [
            (task, "base models, 5-shot", results.get("en_pre", {}).get(name)) for name, task in PRE_TRAINED.items()
        ]
        for name, task in POST_TRAINED.items():
            mode = MODES.get(entry.get("reasoning", ""), "")
            found.append((task, f"chat models, 0-shot CoT, {mode}", results.get("en_post", {}).get(name)))
        for task, protocol, fraction in found:
            if fraction is not None:
                yield names[entry["id"]], task, f"{protocol}, {WHO}", f"{(Decimal(fraction) * 100).normalize():f}"
