"""How the metrics move along families of published models: a Markdown table, which the page of the metrics holds.

``python tests/benchmarks/family_exponents.py``; models of a family differ in size, and in what they can do.
"""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from intensive_callbacks import BenchmarkTable, cards, load_baselines
from intensive_callbacks.functional import size_exponent

if TYPE_CHECKING:
    from intensive_callbacks.benchmark.row import BenchmarkRow
    from intensive_callbacks.functional.intensivity import SizeExponent


class Family(NamedTuple):
    """Published models of one name under one protocol.

    Attributes:
        name: what the table calls it.
        baselines: the shipped table that has them.
        protocol: how the protocol begins.
        models: a pattern of their names.
    """

    name: str
    baselines: str
    protocol: str
    models: str


FAMILIES = (
    Family("LLaMA", "language", "5-shot, evaluated by Meta for Llama 2", r"LLaMA-\d+B"),
    Family("Llama 2", "language", "5-shot, evaluated by Meta for Llama 2", r"Llama-2-\d+B"),
    Family("Qwen1.5", "language", "Open LLM Leaderboard v1", r"Qwen/Qwen1\.5-[\d.]+B"),
    Family("ResNet", "vision", "validation set", r"resnet\d+\.tv_in1k"),
    Family("ViT", "vision", "validation set", r"vit_\w+_patch16_224\.augreg_in21k_ft_in1k"),
    Family("DeiT", "vision", "validation set", r"deit_\w+_patch16_224\.fb_in1k"),
)
# The columns whose values follow from published figures, with the card that says how each moves when widened.
COLUMNS = {
    "intensive/p3_score": "P3",
    "intensive/p2f_score": "P2F",
    "analytic_p2f": "P2F",
    "intensive/memory_efficiency": "MER",
    "intensive/intelligence_density": "ID",
    "intensive/parameter_flop_efficiency": "P/(N·F)",
    "intensive/relevance_rate": "R3",
    "intensive/order_parameter": "φ",
    "intensive/capability_density": "CD",
    "intensive/chinchilla_optimality": "COI",
}


def members(family: Family) -> list[BenchmarkRow]:
    """Its published models."""
    return [
        row
        for row in load_baselines(family.baselines)
        if row.protocol.startswith(family.protocol) and re.fullmatch(family.models, row.model)
    ]


def exponents(family: Family) -> dict[str, SizeExponent]:
    """The exponent of each column in active parameters, of the models where it is defined; at least three."""
    found = {}
    grid = BenchmarkTable(members(family), [key for key in COLUMNS if key != "analytic_p2f"]).grid
    ((group, rows),) = grid.groups.items()
    for column, cells in grid.cells[group].items():
        pairs = [
            (row.active_params, cell.value)
            for row, cell in zip(rows, cells, strict=True)
            if row.active_params and not math.isnan(cell.value)
        ]
        if column.key in COLUMNS and len(pairs) >= 3:
            found[column.key] = size_exponent(lambda value: value, pairs)
    return found


def table() -> str:
    """The exponents with their 95 % intervals, a row for each metric and a column for each family."""
    found = [exponents(family) for family in FAMILIES]
    names = [f"{family.name} ({len(members(family))})" for family in FAMILIES]
    lines = [f"| | when widened | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for key, symbol in COLUMNS.items():
        title = "P2F (2N)" if key == "analytic_p2f" else symbol
        cells = [_cell(by_column.get(key)) for by_column in found]
        lines.append(f"| {title} | {cards.card(symbol).size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(fit: SizeExponent | None) -> str:
    return "" if fit is None else f"{fit.exponent:.2f} ({fit.low:.2f} to {fit.high:.2f})"


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
