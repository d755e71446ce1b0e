"""How often each interval that the pages state holds the truth, in simulations: a Markdown table, in about a minute.

``python tests/benchmarks/coverage.py [SIMULATIONS]``; a ± counts as the interval of 1.96 standard errors.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import torch

from intensive_callbacks.benchmark.compare import compare
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.functional import learning_curve, size_exponent
from intensive_callbacks.metrics import PerformancePerParameter, QueryContentCoupling

if TYPE_CHECKING:
    from collections.abc import Callable

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def holds(value: float, error: float, truth: float) -> bool:
    return abs(value - truth) <= 1.96 * error


def accuracy(share: float, number: int) -> bool:
    right = float((torch.rand(number, generator=GENERATOR) < share).float().mean())
    metric = PerformancePerParameter(num_params=1e9)
    metric.update(right, number)
    return holds(float(metric.compute()), float(metric.standard_error()), 100 * share)


def coupling(rho: float, number: int) -> bool:
    relevance = normal(number)
    metric = QueryContentCoupling()
    metric.update(relevance, rho * relevance + math.sqrt(1 - rho**2) * normal(number))
    return holds(float(metric.compute()), float(metric.standard_error()), rho)


def curve(number: int) -> bool | None:
    sizes = torch.logspace(3, 6, number, dtype=torch.float64)
    law = learning_curve(sizes, 1 - (4 * sizes**-0.35 + 0.05) + 0.002 * normal(number))
    return None if math.isnan(law.low) else law.low <= 0.35 <= law.high


def exponent(number: int) -> bool:
    sizes = torch.logspace(6, 10, number, dtype=torch.float64)
    fit = size_exponent(lambda value: value, zip(sizes, sizes**-0.3 * (0.2 * normal(number)).exp(), strict=True))
    return fit.low <= -0.3 <= fit.high


def paired(number: int) -> bool:
    cells = torch.multinomial(torch.tensor([0.6, 0.15, 0.1, 0.15]), number, replacement=True, generator=GENERATOR)
    facts = {"task": "t", "protocol": "p", "source": "s"}
    first = BenchmarkRow(model="a", correct=dict(enumerate((cells < 2).tolist())), **facts)
    second = BenchmarkRow(model="b", correct=dict(enumerate(((cells == 0) | (cells == 2)).tolist())), **facts)
    difference = compare(first, second, (), num_resamples=1000).differences[0]
    return difference.low <= 0.05 <= difference.high


ROWS: list[tuple[str, Callable[[], bool | None]]] = [
    *((f"± of P3, accuracy .8 of {n} examples", lambda n=n: accuracy(0.8, n)) for n in (100, 1000)),
    *((f"± of P3, accuracy .98 of {n} examples", lambda n=n: accuracy(0.98, n)) for n in (100, 1000)),
    *((f"± of QC3, correlation .6 of {n} pairs", lambda n=n: coupling(0.6, n)) for n in (30, 300)),
    *((f"`learning_curve`, {n} sizes", lambda n=n: curve(n)) for n in (4, 5, 6, 8, 12)),
    *((f"`size_exponent`, {n} models", lambda n=n: exponent(n)) for n in (3, 5, 8)),
    *((f"`compare`, {n} examples", lambda n=n: paired(n)) for n in (100, 300)),
]


def main(simulations: int) -> None:
    print("| interval (nominal 95 %) | holds the truth, % | refused, % |\n|---|---|---|")
    for name, simulate in ROWS:
        held = [simulate() for _ in range(simulations)]
        given = [each for each in held if each is not None]
        refused = 1 - len(given) / len(held)
        print(f"| {name} | {100 * sum(given) / len(given):.1f} | {100 * refused:.1f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
