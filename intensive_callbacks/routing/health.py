"""A verdict in words on the routers of a model, from the sums of one window: what is wrong, and by which threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intensive_callbacks.functional import dead_experts, effective_experts, max_violation, router_z

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    Window = Mapping[str, Mapping[str, Tensor]]

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
        >>> import torch
        >>> health = RoutingHealth()
        >>> window = {"mlp": {"load": torch.tensor([900, 100, 0, 0]), "num_tokens": torch.tensor(1000)}}
        >>> health.verdict(window)
        'collapse in mlp: 1.4 effective experts of 4, at most 1.5 x 1.0 per token'
        >>> [finding.kind for finding in health.new(window)], health.new(window)
        (['collapse'], [])
    """

    def __init__(self) -> None:
        self._first_z: dict[str, float] = {}
        self._said: set[tuple[str, str]] = set()

    def new(self, window: Window) -> list[Finding]:
        """What is wrong in this window and was not found before; for a warning in mid-training."""
        findings = [finding for finding in self.findings(window) if (finding.kind, finding.layer) not in self._said]
        self._said |= {(finding.kind, finding.layer) for finding in findings}
        return findings

    def verdict(self, window: Window) -> str:
        """All that is wrong in one sentence per kind, or that nothing is."""
        return describe(self.findings(window)) or self._well(window)

    def findings(self, window: Window) -> list[Finding]:
        """What is wrong in this window, worst first."""
        found = [finding for layer, states in window.items() for finding in self._judge(layer, states)]
        return sorted(found, key=lambda finding: -finding.severity)

    def _judge(self, layer: str, states: Mapping[str, Tensor]) -> list[Finding]:
        return [*_judge_load(layer, states), *self._judge_logits(layer, states)]

    def _judge_logits(self, layer: str, states: Mapping[str, Tensor]) -> list[Finding]:
        if "z" not in states or states["num_logits"] == 0:
            return []
        z = float(router_z(states["z"], states["num_logits"]))
        usual = max(self._first_z.setdefault(layer, z), math.log(states["load"].shape[-1]) ** 2)
        if z <= DRIFT * usual:
            return []
        text = f"router z {z:.0f}, more than {DRIFT:g} x {usual:.1f}, that of the first window or of equal logits"
        return [Finding("drift of logits", layer, z / (DRIFT * usual), text)]

    @staticmethod
    def _well(window: Window) -> str:
        judged = [states["load"] for states in window.values() if _fair_load(states["load"]) >= MIN_FAIR_LOAD]
        if not judged:
            return f"no verdict: no window with {MIN_FAIR_LOAD} selections per expert"
        worst = max(float(max_violation(load)) for load in judged)
        return f"healthy: {len(judged)} of {len(window)} routers judged, greatest MaxVio {worst:.2f}, no dead expert"


def describe(findings: list[Finding]) -> str:
    """One clause per kind: where it is worst, and in how many layers more."""
    clauses = []
    for kind in dict.fromkeys(finding.kind for finding in findings):
        alike = [finding for finding in findings if finding.kind == kind]
        others = f" (and in {len(alike) - 1} more)" if len(alike) > 1 else ""
        clauses.append(f"{kind} in {alike[0].layer}{others}: {alike[0].text}")
    return "; ".join(clauses)


def _fair_load(load: Tensor) -> float:
    return float(load.sum()) / load.shape[-1]


def _judge_load(layer: str, states: Mapping[str, Tensor]) -> list[Finding]:
    load = states["load"]
    num_experts = load.shape[-1]
    if _fair_load(load) < MIN_FAIR_LOAD or num_experts < 2:
        return []
    selected = float(load.sum() / states["num_tokens"])
    effective = float(effective_experts(load))
    if num_experts >= 2 * COLLAPSE * selected and effective <= COLLAPSE * selected:
        text = f"{effective:.1f} effective experts of {num_experts}, at most {COLLAPSE:g} x {selected:.1f} per token"
        return [Finding("collapse", layer, COLLAPSE * selected / effective * num_experts, text)]
    findings = []
    num_dead = round(float(dead_experts(load)) * num_experts)
    if num_dead:
        text = f"{num_dead} of {num_experts} got nothing where {_fair_load(load):.0f} selections were fair"
        findings.append(Finding("dead experts", layer, 1 + num_dead / num_experts, text))
    violation = float(max_violation(load))
    if violation > MAX_VIOLATION:
        text = f"MaxVio {violation:.1f}, above {MAX_VIOLATION:g}"
        findings.append(Finding("imbalance", layer, violation / MAX_VIOLATION, text))
    return findings
