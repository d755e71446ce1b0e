"""The efficiency misnomer: a model that is efficient by one cost need not be so by another.

Source: Dehghani et al., "The Efficiency Misnomer", arXiv 2110.12894.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from intensive_callbacks.benchmark.row import COSTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intensive_callbacks.benchmark.row import BenchmarkRow

RANKED = ("active_params", "total_params", "num_flops", "num_bytes")
SIZE_ORDER = 0.9


@dataclass(frozen=True)
class Misnomer:
    """How the costs rank the models of one task and protocol.

    Attributes:
        models: those whose accuracy and active parameters are known.
        ranks: for each cost, by its field of a row, every model's rank by accuracy per cost; 1 is the best, ties share
            the mean of their ranks.
        pareto: the Pareto-optimal models: no other is at least as good in accuracy and every cost, and better in one.
        size_correlation: rank correlation of P3 with 1 / active parameters; NaN for fewer than three models.
    """

    models: tuple[str, ...]
    ranks: Mapping[str, tuple[float, ...]]
    pareto: tuple[str, ...]
    size_correlation: float

    @property
    def is_size_order(self) -> bool:
        """Whether P3 orders the models almost as their sizes do, the smallest first."""
        return self.size_correlation >= SIZE_ORDER

    def lines(self) -> list[str]:
        """The notes below the table; none for fewer than three models."""
        if len(self.models) < 3:
            return []
        costs = ", ".join(COSTS[cost] for cost in self.ranks)
        said = [f"Pareto-optimal in accuracy and every cost ({costs}): {', '.join(self.pareto)}"]
        merely = "P3 merely orders them by size" if self.is_size_order else "P3 does not merely order them by size"
        said.append(f"{merely}: its rank correlation with 1/active params is {self.size_correlation:.3f}")
        moved = self._moved()
        if moved:
            said.append(moved)
        return said

    def _moved(self) -> str:
        """The model whose rank depends most on which cost is counted."""
        spreads = [max(ranks) - min(ranks) for ranks in zip(*self.ranks.values(), strict=True)]
        place = max(range(len(spreads)), key=spreads.__getitem__)
        if spreads[place] < 1:
            return ""
        of_model = {cost: ranks[place] for cost, ranks in self.ranks.items()}
        return f"{self.models[place]} ranks " + ", ".join(
            f"{rank:g} per {COSTS[cost]}" for cost, rank in of_model.items()
        )


def efficiency_misnomer(rows: Sequence[BenchmarkRow]) -> Misnomer:
    """Ranks on each cost, the Pareto-optimal models, and whether P3 is merely the order of sizes.

    Args:
        rows: models of one task and protocol. Those without accuracy or active parameters are skipped, and so is a
            cost that is not known for all the others.

    Raises:
        ValueError: if the rows are of different tasks or protocols.

    Example:
        >>> from intensive_callbacks import load_baselines
        >>> rows = [row for row in load_baselines("language") if row.protocol == "5-shot, evaluated by DeepSeek for V3"]
        >>> for line in efficiency_misnomer(rows).lines():
        ...     print(line)
        Pareto-optimal in accuracy and every cost (active params, total params, weights): DeepSeek-V3, ...
        P3 merely orders them by size: its rank correlation with 1/active params is 1.000
        DeepSeek-V3 ranks 2 per active params, 4 per total params, 3 per weights
    """
    if len({row.group for row in rows}) > 1:
        raise ValueError("models of different tasks or protocols cannot be ranked together; pass one group")
    models = [row for row in rows if row.active_params is not None and not math.isnan(row.accuracy)]
    known = {fact: [row.facts[fact] for row in models] for fact in RANKED}
    costs = {fact: [float(cost) for cost in of_models if cost] for fact, of_models in known.items()}
    costs = {fact: of_models for fact, of_models in costs.items() if models and len(of_models) == len(models)}
    accuracies = [row.accuracy for row in models]
    return Misnomer(
        models=tuple(row.model for row in models),
        ranks={fact: _ranks(accuracies, of_models) for fact, of_models in costs.items()},
        pareto=tuple(models[place].model for place in _pareto(accuracies, list(costs.values()))),
        size_correlation=_size_correlation(accuracies, costs.get("active_params", [])),
    )


def _ranks(accuracies: list[float], costs: list[float]) -> tuple[float, ...]:
    scores = [accuracy / cost for accuracy, cost in zip(accuracies, costs, strict=True)]
    return tuple(
        1 + sum(other > score for other in scores) + (sum(other == score for other in scores) - 1) / 2
        for score in scores
    )


def _pareto(accuracies: list[float], costs: list[list[float]]) -> list[int]:
    points = list(zip(accuracies, *([-cost for cost in of_models] for of_models in costs), strict=True))
    return [
        place
        for place, point in enumerate(points)
        if not any(other != point and all(o >= p for o, p in zip(other, point, strict=True)) for other in points)
    ]


def _size_correlation(accuracies: list[float], params: list[float]) -> float:
    from torchmetrics.functional import spearman_corrcoef

    if len(params) < 3:
        return math.nan
    smallness = torch.tensor(params, dtype=torch.float64).reciprocal()
    return float(spearman_corrcoef(torch.tensor(accuracies, dtype=torch.float64) * smallness, smallness))
