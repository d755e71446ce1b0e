"""The density tables of the whitepapers that define intelligence density."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from generate.sources import SOURCES
from generate.tables import lines_of

if TYPE_CHECKING:
    from pathlib import Path

SIX = (
    "mean of MMLU-Redux, MuSR, GSM8K, HumanEval+, IFEval, BFCLv3",
    "EvalScope with vLLM, greedy, thinking off, evaluated by PrismML",
)
FIFTEEN = ("mean of 15 benchmarks of Bonsai 27B", "EvalScope with vLLM, thinking mode, evaluated by PrismML")
FEATURED = {"1-bit Bonsai 8B", "Ternary Bonsai 8B", "Qwen 3 8B", "Llama 3.1 8B", "Gemma 3 1B", "Qwen 3 0.6B"}
ROW = re.compile(r"(?P<model>.+?)(?: \[\d+\])? (?P<density>\d\.\d{3}) (?P<size>[\d.]+) GB (?P<average>[\d.]+)")
ROW_27B = re.compile(r"(?P<model>.+?) (?P<bits>[\d.]+) (?P<size>[\d.]+) (?P<average>[\d.]+) (?P<density>\d\.\d{3})")


def rows(cache: Path) -> list[dict[str, object]]:
    """One row per model: first those of the first whitepaper, then what the later ones add."""
    tables = (
        ("bonsai-1-bit", "Table 6", SIX, ROW, 1),
        ("bonsai-ternary", "Table 7", SIX, ROW, 1),
        ("bonsai-27b", "Table 12", FIFTEEN, ROW_27B, 0),
    )
    found: dict[str, dict[str, object]] = {}
    for name, table, group, pattern, natural in tables:
        source = SOURCES[name]
        lines = lines_of(source.text(cache))
        start = next(place for place, line in enumerate(lines) if line.startswith(f"{table}. Intelligence density"))
        for line in lines[start : start + 40]:
            if match := pattern.fullmatch(line.strip()):
                found.setdefault(match["model"], _row(match, group, natural, f"{source.cited}, {table}", source.url))
    return list(found.values())


def _row(match: re.Match[str], group: tuple[str, str], natural: int, source: str, url: str) -> dict[str, object]:
    return {
        "model": match["model"],
        "task": group[0],
        "protocol": group[1],
        "printed": match["average"],
        "printed_gb": match["size"],
        "printed_density": match["density"],
        "log_base": "e" if natural else "2",
        "per": "token",
        "featured": "yes" if match["model"] in FEATURED else "no",
        "source": source,
        "url": url,
    }
