"""How often each ± and interval that is given holds the truth, in simulations: a Markdown table, in some minutes.

``python tests/benchmarks/coverage.py [SIMULATIONS]``; a ± counts as the interval of 1.96 standard errors.
"""

from __future__ import annotations

import math
import sys
import zlib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from intensive_callbacks import metrics
from intensive_callbacks.benchmark.compare import compare
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.cards import CARDS
from intensive_callbacks.functional import critical_exponent, learning_curve, retention_interval, size_exponent

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import Metric

GENERATOR = torch.Generator()
FACTS = {"task": "t", "protocol": "p", "source": "s"}


class Row(NamedTuple):
    """One simulated ± or interval.

    Attributes:
        name: what the table calls it.
        simulate: draws data once; whether the interval held the truth, ``None`` where it was refused.
        keys: the logged keys whose ± this is.
    """

    name: str
    simulate: Callable[[], bool | None]
    keys: tuple[str, ...] = ()


def normal(*shape: int) -> torch.Tensor:
    """Draws of a standard normal distribution."""
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def drawn(share: float, number: int) -> torch.Tensor:
    """Whether each of some independent answers is right."""
    return torch.rand(number, generator=GENERATOR) < share


def holds(value: float, error: float, truth: float) -> bool | None:
    """Whether 1.96 standard errors around the value hold the truth."""
    return None if math.isnan(error) else abs(value - truth) <= 1.96 * error


def given(metric: Metric, truth: float) -> bool | None:
    """Whether the ± of a metric holds the truth."""
    return holds(float(metric.compute()), float(metric.standard_error()), truth)


# Each metric of an accuracy: its arguments, and the keys that it is logged under.
OF_ACCURACY: dict[str, tuple[Callable[[], Metric], tuple[str, ...]]] = {
    "P3": (partial(metrics.PerformancePerParameter, 1e9), ("intensive/p3_score",)),
    "P2F": (partial(metrics.PerformancePerFlop, 1e9), ("intensive/p2f_score",)),
    "MER": (
        partial(metrics.MemoryEfficiencyRatio, 1e9),
        ("intensive/memory_efficiency", "intensive/memory_efficiency_training"),
    ),
    "P/J": (partial(metrics.PerformancePerJoule, 1.0), ("intensive/accuracy_per_joule",)),
    "ID": (partial(metrics.IntelligenceDensity, 1e9), ("intensive/intelligence_density",)),
    "CD": (partial(metrics.CapabilityDensity, 1e9), ("intensive/capability_density",)),
    "P/(N·F)": (partial(metrics.ParameterFlopEfficiency, 1e9, 1e12), ("intensive/parameter_flop_efficiency",)),
    "NetScore": (partial(metrics.NetScore, 1e9, 1e12), ("intensive/net_score",)),
    "R3": (partial(metrics.RelevanceRealizationRate, 2.0, 1.0, 0.25), ("intensive/relevance_rate",)),
    "SAA": (partial(metrics.SparsityAdjustedAccuracy, 2.0, 1.0), ("intensive/sparsity_adjusted_accuracy",)),
    "φ": (partial(metrics.OrderParameter, 0.25), ("intensive/order_parameter",)),
}


def of_accuracy(symbol: str, share: float, number: int) -> bool | None:
    """A metric at the share of right answers among some independent examples."""
    build = OF_ACCURACY[symbol][0]
    metric, exact = build(), build()
    metric.update(float(drawn(share, number).double().mean()), number)
    exact.update(share)
    return given(metric, float(exact.compute()))


SHARES = {"total_params": 2.0, "active_params": 1.0, "random_baseline": 0.25}


def configuration_quality(number: int) -> bool | None:
    """CQ·R3 of labels that say everything of each other: the ± is that of the accuracy."""
    share, labels = 0.7, torch.arange(number) % 4
    metric = metrics.ConfigurationQuality(4, 4, **SHARES)
    metric.update(float(drawn(share, number).double().mean()), number, x=labels, y=labels)
    return given(metric, 0.5 * share / 0.25)


def coupling(rho: float, number: int) -> bool | None:
    """QC3 of independent normal pairs."""
    relevance = normal(number)
    metric = metrics.QueryContentCoupling()
    metric.update(relevance, rho * relevance + math.sqrt(1 - rho**2) * normal(number))
    return given(metric, rho)


def layers(number: int, rho: float) -> bool | None:
    """A mean over layers around one level, each like the one before it."""
    values = normal(number)
    for layer in range(1, number):
        values[layer] = rho * values[layer - 1] + math.sqrt(1 - rho**2) * values[layer]
    metric = metrics.LayerwiseMean(number)
    metric.update(values)
    return given(metric, 0.0)


def curve(number: int) -> bool | None:
    """The exponent of a learning curve with noise on the accuracy."""
    sizes = torch.logspace(3, 6, number, dtype=torch.float64)
    law = learning_curve(sizes, 1 - (4 * sizes**-0.35 + 0.05) + 0.002 * normal(number))
    return None if math.isnan(law.low) else law.low <= 0.35 <= law.high


def exponent(number: int) -> bool:
    """The exponent of a metric in the size, with noise of 20 %."""
    sizes = torch.logspace(6, 10, number, dtype=torch.float64)
    fit = size_exponent(lambda value: value, zip(sizes, sizes**-0.3 * (0.2 * normal(number)).exp(), strict=True))
    return fit.low <= -0.3 <= fit.high


def critical(number: int) -> bool:
    """A critical exponent with noise of 5 %, the critical point known."""
    control = 1 + torch.logspace(-3, 1, number, dtype=torch.float64)
    fit = critical_exponent(control, (control - 1) ** 0.5 * (0.05 * normal(number)).exp(), critical_point=1.0)
    return fit.low <= 0.5 <= fit.high


CELLS = torch.tensor([0.6, 0.15, 0.1, 0.15])  # of the pairs: both, first alone, second alone, neither


def paired(number: int) -> torch.Tensor:
    """The cell of each pair."""
    return torch.multinomial(CELLS, number, replacement=True, generator=GENERATOR)


def difference(number: int, metric: str | None = None) -> bool:
    """The difference of two models on the same examples, in accuracy or in a metric at different costs."""
    cells, metrics_asked = paired(number), [metric] if metric else []
    right = (cells < 2).tolist(), ((cells == 0) | (cells == 2)).tolist()
    rows = [
        BenchmarkRow(model=str(place), correct=dict(enumerate(each)), active_params=size, **FACTS)
        for place, (each, size) in enumerate(zip(right, (1e9, 2e9), strict=True))
    ]
    found = compare(*rows, metrics_asked, num_resamples=1000).differences[-1]
    return found.low <= (100 * (0.75 / 1 - 0.7 / 2) if metric else 0.05) <= found.high


def retention(number: int) -> bool | None:
    """Accuracy of a pruned network over that of the dense one."""
    counts = torch.bincount(paired(number), minlength=4)
    both, sparse, dense, neither = counts.tolist()
    low, high = retention_interval(torch.tensor([[neither, dense], [sparse, both]]))
    return None if low.isnan() else bool(low <= 0.75 / 0.7 <= high)


ROUTING = tuple(card.key for card in CARDS if card.fed_by == "routing")
OF_LAYERS = (*ROUTING, "intensive/layerwise_mean")
ROWS: list[Row] = [
    *(Row(f"± of P3, accuracy .8 of {n} examples", partial(of_accuracy, "P3", 0.8, n)) for n in (100, 1000)),
    *(Row(f"± of P3, accuracy .98 of {n} examples", partial(of_accuracy, "P3", 0.98, n)) for n in (100, 1000)),
    *(
        Row(f"± of {symbol}, accuracy .6 of 1000 examples", partial(of_accuracy, symbol, 0.6, 1000), keys)
        for symbol, (_, keys) in OF_ACCURACY.items()
    ),
    Row(
        "± of CQ·R3, accuracy .7 of 1000 examples, CQ 1",
        partial(configuration_quality, 1000),
        ("intensive/configuration_quality",),
    ),
    *(
        Row(f"± of QC3, correlation .6 of {n} pairs", partial(coupling, 0.6, n), ("intensive/query_coupling",))
        for n in (30, 300)
    ),
    *(
        Row(f"± of a mean over {n} layers (each routing key), neighbors' correlation {rho:g}", call, OF_LAYERS)
        for n in (12, 32)
        for rho in (0, 0.6)
        for call in [partial(layers, n, rho)]
    ),
    *(Row(f"`learning_curve`, {n} sizes", partial(curve, n)) for n in (4, 5, 6, 8, 12)),
    *(Row(f"`size_exponent`, {n} models", partial(exponent, n)) for n in (3, 5, 8)),
    *(Row(f"`critical_exponent`, {n} values, critical point given", partial(critical, n)) for n in (5, 12)),
    *(Row(f"`compare`, accuracy, {n} examples", partial(difference, n)) for n in (100, 300)),
    *(Row(f"`compare`, P3 at different costs, {n} examples", partial(difference, n, "P3")) for n in (100, 300)),
    *(Row(f"`retention_interval`, {n} examples", partial(retention, n)) for n in (100, 1000)),
]


def line(row: Row, simulations: int) -> str:
    """The row of the table; its draws do not depend on the other rows."""
    GENERATOR.manual_seed(zlib.crc32(row.name.encode()))
    held = [row.simulate() for _ in range(simulations)]
    shown = [each for each in held if each is not None]
    refused = 1 - len(shown) / len(held)
    return f"| {row.name} | {100 * sum(shown) / len(shown):.1f} | {100 * refused:.1f} |"


def main(simulations: int) -> None:
    """Print the table."""
    print("| interval (nominal 95 %) | holds the truth, % | refused, % |\n|---|---|---|")
    for row in ROWS:
        print(line(row, simulations), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
