"""Two checkpoints of one model, compared token by token."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from intensive_callbacks.routing.reference import compare_routing
from routing.designs import D, E, K, LinearGate, Top1


def test_saturation_and_coactivation_against_a_brute_force():
    torch.manual_seed(0)
    model = nn.Sequential(LinearGate(), LinearGate())
    reference = copy.deepcopy(model)
    with torch.no_grad():
        reference[0].gate.weight.add_(0.1 * torch.randn(E, D))
    batches = [torch.randn(40, D), torch.randn(25, D)]
    comparison = compare_routing(model, reference, batches)["0"]
    sets = [
        [set(row.tolist()) for x in batches for row in block.gate(x).topk(K).indices]
        for block in (model[0], reference[0])
    ]
    same = [len(a & b) / K for a, b in zip(*sets, strict=True)]
    assert 0 < sum(same) / len(same) < 1
    assert float(comparison.saturation) == pytest.approx(sum(same) / len(same))
    for found, chosen in zip((comparison.coactivation, comparison.reference_coactivation), sets, strict=True):
        for i in range(E):
            for j in range(E):
                of_i = [ids for ids in chosen if i in ids]
                assert float(found[i, j]) == pytest.approx(sum(j in ids for ids in of_i) / len(of_i))


def test_models_that_differ_are_refused():
    with pytest.raises(ValueError, match="same routers"):
        compare_routing(nn.Sequential(LinearGate()), nn.Sequential(Top1(), Top1()), [])
