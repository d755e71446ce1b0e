"""A verdict in words on the routers of a model, from the sums of one window: what is wrong, and by which threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from intensive_callbacks.functional import (
    dead_experts_compute,
    effective_experts_compute,
    max_violation_compute,
    router_z_compute,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intensive_callbacks.routing.sums import RoutingSums

# An expert whose fair share is this many selections and that got none is dead: by chance that is e^-50.
MIN_FAIR_LOAD = 50
COLLAPSE = 1.5
MAX_VIOLATION = 2.0
DRIFT = 4.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one router.

    Attributes:
        kind: ``"collapse"``, ``"dead experts"``, ``"imbalance"`` or ``"drift of logits"``.
        layer: the layer's name.
        severity: how many times the threshold is exceeded.
        text: the measured value and the threshold, in words.
    """

    kind: str
    layer: str
    severity: float
    text: str


class RoutingHealth:
    """The verdict on a model's routers, window after window.

    ================== =========================================================================================
    collapse           the effective number of experts is at most 1.5 times the experts that one token gets, where
                       there are at least 3 times as many; nothing further is said of such a layer's load
    dead experts       an expert got nothing in a window whose fair share was at least 50 selections
    imbalance          MaxVio above 2: the busiest expert has more than 3 times its fair share
    drift of logits    router z is more than 4 times that of the first window, and than (ln E)^2, its value for equal
                       logits of 0
    ================== =========================================================================================

    A layer whose fair share is below 50 selections is not judged by its load: its window is too short.

    Example:
        >>> from intensive_callbacks.routing.statistics import RoutingStatistics
        >>> from intensive_callbacks.routing.sums import RoutingSums
        >>> statistics = RoutingStatistics(num_experts=4)
        >>> statistics.count(torch.tensor([0] * 900 + [1] * 100)[:, None], mask=None)
        >>> health, sums = RoutingHealth(), RoutingSums.of({"mlp": statistics})
        >>> health.verdict(sums)
        'collapse in mlp: 1.4 effective experts of 4, at most 1.5 x 1.0 per token'
        >>> [finding.kind for finding in health.new(sums)], health.new(sums)
        (['collapse'], [])
    """

    def __init__(self) -> None:
        self._first_z: dict[str, float] = {}
        self._reported: set[tuple[str, str]] = set()

    def new(self, sums: RoutingSums) -> list[Finding]:
        """What is wrong in this window and was not found before; for a warning in mid-training."""
        findings = [finding for finding in self.findings(sums) if (finding.kind, finding.layer) not in self._reported]
        self._reported |= {(finding.kind, finding.layer) for finding in findings}
        return findings

    def verdict(self, sums: RoutingSums) -> str:
        """All that is wrong in one sentence per kind, or that nothing is."""
        return describe(self.findings(sums)) or _describe_health(sums)

    def findings(self, sums: RoutingSums) -> list[Finding]:
        """What is wrong in this window, worst first."""
        found = [finding for figures in _figures(sums) for finding in self._judge(figures)]
        return sorted(found, key=lambda finding: -finding.severity)

    def _judge(self, figures: _Figures) -> Iterator[Finding]:
        if figures.is_judged:
            yield from _judge_load(figures)
        if math.isnan(figures.z):
            return
        usual = max(self._first_z.setdefault(figures.layer, figures.z), math.log(figures.num_experts) ** 2)
        if figures.z > DRIFT * usual:
            reference = f"{DRIFT:g} x {usual:.1f}, that of the first window or of equal logits"
            text = f"router z {figures.z:.0f}, more than {reference}"
            yield Finding("drift of logits", figures.layer, figures.z / (DRIFT * usual), text)


class _Figures(NamedTuple):
    """What one layer is judged by."""

    layer: str
    num_experts: int
    fair_load: float
    num_selected: float  # experts per token
    effective: float
    dead: float
    violation: float
    z: float

    @property
    def is_judged(self) -> bool:
        return self.fair_load >= MIN_FAIR_LOAD


def _figures(sums: RoutingSums) -> Iterator[_Figures]:
    """The figures of every layer whose ids are all valid, formed for all layers at once."""
    for group in sums.groups:
        states = group.states()
        load = states["load"]
        total = load.sum(-1)
        columns = (
            total / group.num_experts,
            total / states["num_tokens"],
            effective_experts_compute(load),
            dead_experts_compute(load),
            max_violation_compute(load),
            router_z_compute(states["z"], states["num_logits"]),
        )
        rows = torch.stack(columns, dim=-1).tolist()
        for layer, row, num_invalid in zip(group.layers, rows, states["num_invalid"].tolist(), strict=True):
            if num_invalid == 0:
                yield _Figures(layer, group.num_experts, *row)


def _judge_load(figures: _Figures) -> Iterator[Finding]:
    _, num_experts, fair_load, num_selected, effective, dead, violation, _ = figures
    if num_experts < 2:
        return
    if num_experts >= 2 * COLLAPSE * num_selected and effective <= COLLAPSE * num_selected:
        text = (
            f"{effective:.1f} effective experts of {num_experts}, at most {COLLAPSE:g} x {num_selected:.1f} per token"
        )
        yield Finding("collapse", figures.layer, COLLAPSE * num_selected / effective * num_experts, text)
        return
    num_dead = round(dead * num_experts)
    if num_dead:
        text = f"{num_dead} of {num_experts} got nothing where {fair_load:.0f} selections were fair"
        yield Finding("dead experts", figures.layer, 1 + num_dead / num_experts, text)
    if violation > MAX_VIOLATION:
        text = f"MaxVio {violation:.1f}, above {MAX_VIOLATION:g}"
        yield Finding("imbalance", figures.layer, violation / MAX_VIOLATION, text)


def _describe_health(sums: RoutingSums) -> str:
    judged = [figures for figures in _figures(sums) if figures.is_judged]
    if not judged:
        return f"no verdict: no window with {MIN_FAIR_LOAD} selections per expert"
    worst = max(figures.violation for figures in judged)
    return f"healthy: {len(judged)} of {len(sums.layers)} routers judged, greatest MaxVio {worst:.2f}, no dead expert"


def describe(findings: list[Finding]) -> str:
    """One clause per kind: where it is worst, and in how many layers more."""
    clauses = []
    for kind in dict.fromkeys(finding.kind for finding in findings):
        alike = [finding for finding in findings if finding.kind == kind]
        others = f" (and in {len(alike) - 1} more)" if len(alike) > 1 else ""
        clauses.append(f"{kind} in {alike[0].layer}{others}: {alike[0].text}")
    return "; ".join(clauses)
