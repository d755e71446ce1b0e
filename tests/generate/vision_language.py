"""Scores of models of vision and language that VLMEvalKit published of its own runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from generate.sources import SOURCES
from generate.tables import cells_of, lines_of

COUNTED: dict[str, dict[str, int]] = json.loads(
    (Path(__file__).parents[1] / "data" / "counted_models.json").read_text(encoding="utf-8")
)
PROTOCOL = "0-shot generation, answers matched by VLMEvalKit"
# source, task, column of the score to the right of the name, examples, chance
TABLES = (
    ("vlmevalkit-seed", "SEED-Bench (image part)", 1, 14232, "0.25"),
    ("vlmevalkit-mmmu", "MMMU (validation set)", 0, 900, None),
)
# Its parameters: the configuration that was counted, or what is published in billions and where.
SIZES: dict[str, tuple[str, str]] = {
    "LLaVA-v1.5-7B": ("LLaVA-1.5-7B", "counted from the published configuration"),
    "LLaVA-v1.5-13B": ("LLaVA-1.5-13B", "counted from the published configuration"),
    "InstructBLIP-7B": ("InstructBLIP-7B", "counted from the published configuration"),
    "InstructBLIP-13B": ("InstructBLIP-13B", "counted from the published configuration"),
    "Qwen-VL": ("9.6", "arXiv:2308.12966, Table 1"),
    "Qwen-VL-Chat": ("9.6", "arXiv:2308.12966, Table 1"),
    "CogVLM-17B-Chat": ("17", "CogVLM README (github.com/THUDM/CogVLM)"),
    "IDEFICS-9B-Instruct": ("9", "its name (huggingface.co/HuggingFaceM4/idefics-9b-instruct)"),
    "IDEFICS-80B-Instruct": ("80", "its name (huggingface.co/HuggingFaceM4/idefics-80b-instruct)"),
}
FEATURED = {"LLaVA-v1.5-7B", "LLaVA-v1.5-13B", "Qwen-VL-Chat", "Qwen-VL", "InstructBLIP-7B", "InstructBLIP-13B"}


def rows(cache: Path) -> list[dict[str, Any]]:
    """One row per model and task."""
    found = []
    for name, task, column, examples, chance in TABLES:
        source = SOURCES[name]
        lines = lines_of(source.text(cache))
        for model, (size, where) in SIZES.items():
            printed = next(cells[column] for line in lines if (cells := cells_of(line, model)))
            total = COUNTED[size]["total"] if size in COUNTED else round(float(size) * 1e9)
            found.append(
                {
                    "model": model.replace("LLaVA-v1.5", "LLaVA-1.5"),
                    "task": task,
                    "protocol": PROTOCOL,
                    "printed": printed,
                    "total_params": total,
                    "active_params": total,
                    "bytes_per_param": 2,
                    "per": "example",
                    "num_examples": examples,
                    "random_baseline": chance,
                    "featured": "yes" if column == 1 and model in FEATURED else "no",
                    "source": f"{source.cited}; params: {where}",
                    "url": source.url,
                    "configuration": size if size in COUNTED else None,
                    "published_total": None if size in COUNTED else f"{size}B",
                }
            )
    return found
