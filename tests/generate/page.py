"""Write the tables of docs/published-models.md: ``python tests/generate/page.py``."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generate.counted import CONFIGURATIONS, FIGURES, counted_models
from generate.sources import SOURCES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "published-models.md"
BASELINES = ROOT / "intensive_callbacks" / "benchmark" / "baselines"


def sources_table() -> str:
    """Every file that rows were read from, and how many."""
    rows: dict[str, int] = {}
    for table in BASELINES.glob("*.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            for cells in csv.DictReader(file):
                rows[cells["url"]] = rows.get(cells["url"], 0) + 1
    lines = [
        f"| [{source.title}]({source.url}) | {source.repo} | {source.commit[:7]} | {rows.get(source.url, '')} |"
        for source in sorted(SOURCES.values(), key=lambda source: source.title.lower())
    ]
    return "\n".join(["| source | repository | commit | rows |", "|---|---|---|---:|", *lines])


def counted_table() -> str:
    """What was counted of each configuration, and what is published of it, in billions."""
    with (ROOT / "tests" / "generate" / "models.csv").open(encoding="utf-8", newline="") as file:
        published = {row["configuration"]: row for row in reversed(list(csv.DictReader(file))) if row["configuration"]}
    lines = []
    for name, figures in counted_models().items():
        facts = published.get(name, {})
        sizes = " | ".join(f"{figure / 1e9:.3f}" for kind, figure in figures.items() if kind in FIGURES)
        printed = f"{facts.get('published_total', '')} | {facts.get('published_active', '')}"
        lines.append(f"| [{name}]({CONFIGURATIONS[name]['source']}) | {sizes} | {printed} |")
    head = (
        "| configuration | total | active | without input embedding | without embeddings | published total | active |"
    )
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|---:|", *lines])


def page() -> str:
    """The page with its tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in {"sources": sources_table(), "counted": counted_table()}.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        text = text[: text.index(start) + len(start)] + table + "\n" + text[text.index(end) :]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
