"""What a router gives that is no expert or no probability is NaN in a Monitor's values, and one warning."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from intensive_callbacks import Monitor
from routing.designs import D, E, K, LinearGate

OF_IDS = ("routing/load_entropy", "routing/max_violation", "routing/load_cv2", "routing/effective_experts")
OF_PROBABILITIES = ("routing/conditional_entropy", "routing/specialization", "routing/confidence")


class FromOne(LinearGate):
    """A block whose own router counts its experts from 1."""

    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(E, D))

        def forward(self, x):
            weights, ids = (x @ self.weight.T).softmax(-1).topk(K)
            return weights, ids + 1

    def __init__(self):
        super().__init__()
        self.gate = self.Router()
        self.experts = nn.ParameterDict({"w": torch.randn(E, D, D)})

    def forward(self, x):
        weights, ids = self.gate(x)
        chosen = self.experts["w"][ids - 1]
        return torch.einsum("td,tkdh,tk->th", x, chosen, weights)


def improbable(scores):
    """A reader of the gate's logits: valid ids beside ``scores(logits)`` called probabilities."""
    return {"*.gate": lambda _, out: {"expert_ids": out.topk(K).indices, "probabilities": scores(out)}}


def values_of(block, routers):
    """What a Monitor logs for one step, and the warnings about routers' values."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"block": block})
    with warnings.catch_warnings(record=True) as caught, Monitor(model, routers=routers, every_n_steps=1) as monitor:
        warnings.simplefilter("always")
        for step in (1, 2):
            x = torch.randn(64, D)
            monitor.observe(x)
            block(x)
            values = monitor.log(step, 0.5)
    messages = [str(each.message) for each in caught]
    return values, [each for each in messages if "the router of layer" in each]


@pytest.mark.parametrize(
    ("block", "routers"),
    [
        (FromOne, "auto"),
        (LinearGate, {"*.gate": lambda _, out: {"expert_ids": out.topk(K).indices + 1}}),
        (LinearGate, {"*.gate": lambda _, out: {"expert_ids": out.topk(K).indices - 2**31}}),
    ],
)
def test_ids_out_of_range_are_nan_and_one_warning(block, routers):
    values, messages = values_of(block(), routers)
    assert all(math.isnan(values[key]) for key in OF_IDS)
    assert len(messages) == 1
    assert "expert ids outside [-1, 6)" in messages[0]


@pytest.mark.parametrize(
    "scores", [lambda out: out, lambda out: out.sigmoid(), lambda out: out.softmax(-1) * 2, lambda out: out * math.nan]
)
def test_what_is_no_probability_is_nan_and_one_warning(scores):
    values, messages = values_of(LinearGate(), improbable(scores))
    assert all(math.isnan(values[key]) for key in OF_PROBABILITIES)
    assert all(math.isfinite(values[key]) for key in OF_IDS)  # the ids are right
    assert len(messages) == 1
    assert "do not sum to 1" in messages[0]


def test_probabilities_are_not_suspected():
    values, messages = values_of(LinearGate(), improbable(lambda out: out.softmax(-1).bfloat16()))
    assert all(math.isfinite(values[key]) for key in (*OF_IDS, *OF_PROBABILITIES))
    assert messages == []
