"""The verdict on models that are made unhealthy on purpose, and on a healthy one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver
from intensive_callbacks.routing.health import RoutingHealth
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums
from routing.designs import D, E, LinearGate, Top1


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def window_of(model, num_tokens=3000):
    with RouterObserver(model) as observer, torch.no_grad():
        model(torch.randn(num_tokens, D))
    return observer.read()


def biased(bias, design=LinearGate):
    """Two layers; the first one's gate leans as ``bias`` says."""
    model = nn.Sequential(design(), design())
    gate = nn.Linear(D, E)
    gate.bias.data = torch.tensor(bias)
    model[0].gate = gate
    return model


def kinds(health, window):
    return {(finding.layer, finding.kind) for finding in health.findings(window)}


def test_a_random_model_is_healthy():
    health, window = RoutingHealth(), window_of(biased([0.0] * E))
    assert health.findings(window) == []
    assert health.verdict(window).startswith("healthy: 2 of 2 routers judged")


@pytest.mark.parametrize(
    ("bias", "kind"),
    [
        ([9.0, 9.0, 0, 0, 0, 0], "collapse"),
        ([0, 0, 0, 0, 0, -50.0], "dead experts"),
    ],
)
def test_unhealthy_by_its_bias(bias, kind):
    health, window = RoutingHealth(), window_of(biased(bias))
    assert kinds(health, window) == {("0", kind)}
    assert f"{kind} in 0" in health.verdict(window)
    assert health.verdict(window).isprintable()


def test_imbalance():
    health, window = RoutingHealth(), window_of(biased([0.9, 0, 0, 0, 0, 0], Top1))
    load = window.by_layer()["0"]["load"].tolist()
    assert max(load) > 3 * sum(load) / E
    assert min(load) > 0
    assert kinds(health, window) == {("0", "imbalance")}


def test_drift_of_logits_is_relative_to_the_first_window():
    model, health = biased([0.0] * E), RoutingHealth()
    assert health.new(window_of(model)) == []
    model[0].gate.weight.data *= 12
    window = window_of(model)
    assert [(finding.layer, finding.kind) for finding in health.new(window)] == [("0", "drift of logits")]
    assert health.new(window) == []
    assert RoutingHealth().findings(window) == []


def test_a_short_window_is_not_judged():
    health, window = RoutingHealth(), window_of(biased([9.0, 9.0, 0, 0, 0, 0]), num_tokens=20)
    assert health.findings(window) == []
    assert health.verdict(window).startswith("no verdict")


def test_all_experts_of_every_token_is_no_collapse():
    statistics = RoutingStatistics(num_experts=4)
    statistics.count(torch.arange(4).expand(500, 4), mask=None)
    assert RoutingHealth().findings(RoutingSums.of({"mlp": statistics})) == []


@pytest.mark.parametrize(("sign", "expected"), [(1, set()), (-1, {"collapse"})])
def test_a_router_trained_against_balance_collapses(sign, expected):
    """The Switch loss, minimized and maximized."""
    block = Top1()
    model = nn.Sequential(block)
    optimizer = torch.optim.Adam(block.gate.parameters(), lr=0.05)
    for _ in range(150):
        x = torch.randn(256, D) + 1
        p = block.gate(x).softmax(-1)
        load = nn.functional.one_hot(p.argmax(-1), E).float().mean(0)
        (sign * (load * p.mean(0)).sum() * E).backward()
        optimizer.step()
        optimizer.zero_grad()
    with RouterObserver(model) as observer:
        model(torch.randn(3000, D) + 1)
    assert {finding.kind for finding in RoutingHealth().findings(observer.read())} == expected
