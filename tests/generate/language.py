"""Scores of language models on MMLU, MMLU-Pro and GPQA, each group under one protocol of one evaluator."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generate import swallow
from generate.language_tables import FEATURED, score_rows
from generate.sources import SOURCES
from generate.tables import cells_of, figures, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
COUNTED: dict[str, dict[str, int]] = json.loads(
    (HERE.parent / "data" / "counted_models.json").read_text(encoding="utf-8")
)
with (HERE / "models.csv").open(encoding="utf-8", newline="") as _file:
    MODELS = {row["model"]: row for row in csv.DictReader(_file)}
EXAMPLES = {"MMLU": 14042, "MMLU-Pro": 12032, "GPQA-Diamond": 198, "GPQA": None}
CHANCE = {"MMLU": "0.25", "MMLU-Pro": "0.1", "GPQA-Diamond": "0.25", "GPQA": "0.25"}
BYTES = {"BF16": 2, "FP8": 1}
UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


def _scored(cache: Path) -> Iterator[dict[str, Any]]:
    """What the tables print, model by model."""
    for scores in score_rows():
        source = SOURCES[scores.source]
        printed = figures(source.text(cache), scores.after, scores.label, len(scores.models))
        for model, figure in zip(scores.models, printed, strict=True):
            if model is not None and figure is not None:
                yield _row(model, (scores.task, scores.protocol), figure, (source.cited, source.url))
    yield from _by_model(cache)
    yield from _leaderboard(cache)
    source = SOURCES["swallow"]
    for model, task, protocol, percent in swallow.scores(cache):
        yield _row(model, (task, protocol), percent, (source.cited, source.url))
    with (HERE / "by_hand.csv").open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            group, cited = (cells["task"], cells["protocol"]), (cells["source"], cells["url"])
            yield _row(cells["model"], group, cells["printed"], cited)


def _by_model(cache: Path) -> Iterator[dict[str, Any]]:
    """Tables with one line per model."""
    source = SOURCES["llama-2"]
    for line in lines_of(source.text(cache)):
        cells = cells_of(line, "Llama 1") or cells_of(line, "Llama 2") or []
        if len(cells) == 9:
            family = "LLaMA" if "Llama 1" in line else "Llama-2"
            protocol = "5-shot, evaluated by Meta for Llama 2"
            yield _row(f"{family}-{cells[0]}", ("MMLU", protocol), cells[6], (source.cited, source.url))
    source = SOURCES["mmlu"]
    names = {"70B, few-shot": "Chinchilla-70B", "280B, few-shot": "Gopher-280B", "175B, few-shot": "GPT-3 175B"}
    for line in lines_of(source.text(cache)):
        for mark, model in names.items():
            if f"({mark})" in line:
                figure = line.split("|")[7].strip()
                protocol = "few-shot, leaderboard of the test's authors"
                yield _row(model, ("MMLU", protocol), figure, (source.cited, source.url))


def _leaderboard(cache: Path) -> Iterator[dict[str, Any]]:
    """The runs of the Open LLM Leaderboard that ObsScaling collected."""
    source = SOURCES["obsscaling"]
    protocol = "Open LLM Leaderboard v1 (lm-evaluation-harness, 5-shot)"
    cited = f"{source.title} (github.com/{source.repo}, {source.commit[:7]}; arXiv:2405.10938)"
    for cells in csv.DictReader(io.StringIO(source.text(cache))):
        if cells["Model"] in MODELS and cells["MMLU"]:
            percent = f"{round(Decimal(cells['MMLU']), 4) * 100:.2f}"
            yield _row(cells["Model"], ("MMLU", protocol), percent, (cited, source.url))


def _row(model: str, group: tuple[str, str], printed: str, cited: tuple[str, str]) -> dict[str, Any]:
    (task, protocol), (source, url) = group, cited
    facts = MODELS[model]
    total, active, convention = sizes(facts)
    return {
        "model": model,
        "task": task,
        "protocol": protocol,
        "printed": printed,
        "total_params": total,
        "active_params": active,
        "bytes_per_param": BYTES.get(facts["format"]),
        "num_bytes": COUNTED[facts["configuration"]]["num_bytes"] if facts["format"] == "MXFP4" else None,
        "per": "token",
        "num_examples": EXAMPLES[task],
        "num_tokens": facts["num_tokens"] and int(float(facts["num_tokens"])),
        "random_baseline": CHANCE[task],
        "featured": "yes" if (task, protocol) == ("MMLU", FEATURED) else "no",
        "source": f"{source}; sizes and tokens: {facts['facts']}",
        "url": url,
        "configuration": facts["configuration"],
        "published_total": facts["published_total"],
        "published_active": facts["published_active"],
        "convention": convention,
    }


def sizes(facts: dict[str, str]) -> tuple[int, int, str]:
    """Total and active parameters, counted where the configuration is public, and the publisher's own convention."""
    total, active = parse(facts["published_total"]), parse(facts["published_active"])
    if not facts["configuration"]:
        return total, active, "as published"
    counted = COUNTED[facts["configuration"]]
    conventions = [name for name in counted if name.startswith("active")]
    nearest = min(conventions, key=lambda name: abs(counted[name] - active))
    return counted["total"], counted["active"], nearest


def parse(size: str) -> int:
    """The number that a publisher prints, such as 671B."""
    return int(Decimal(size[:-1]) * UNITS[size[-1]])


def rows(cache: Path) -> list[dict[str, Any]]:
    """One row per model, task and protocol; a model that stands alone under its protocol is left out.

    Raises:
        ValueError: if two tables of one evaluator disagree.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in _scored(cache):
        first = found.setdefault((row["model"], row["task"], row["protocol"]), row)
        if first["printed"] != row["printed"]:
            raise ValueError(f"{row['model']} on {row['task']}: {first['printed']} and {row['printed']}")
    sizes_of_groups = Counter((task, protocol) for _, task, protocol in found)
    compared = [row for (_, *group), row in found.items() if sizes_of_groups[tuple(group)] > 1]
    groups = list(sizes_of_groups)
    return sorted(compared, key=lambda row: (*_place(row, groups), -Decimal(row["printed"])))


def _place(row: dict[str, Any], groups: list[tuple[str, str]]) -> tuple[int, int]:
    """Tasks in their order, and under each the groups in that in which they were read."""
    return list(EXAMPLES).index(row["task"]), groups.index((row["task"], row["protocol"]))
