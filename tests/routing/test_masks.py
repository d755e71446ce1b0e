"""The padding that routers leave out, by the name and the form of the mask that a model is called with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver

B, S, D, E = 3, 5, 8, 4
REAL = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)
CAUSAL = torch.ones(S, S, dtype=torch.bool).tril()


class MoE(nn.Module):
    def __init__(self):
        super().__init__()
        self.top_k, self.gate, self.experts = 2, nn.Linear(D, E), nn.ModuleList(nn.Linear(D, D) for _ in range(E))

    def forward(self, x):
        weights, self.ids = self.gate(x.reshape(-1, D)).softmax(-1).topk(2)
        out = torch.stack([expert(x.reshape(-1, D)) for expert in self.experts], 1)
        return (out.gather(1, self.ids[..., None].expand(-1, -1, D)) * weights[..., None]).sum(1).view_as(x)


def model_taking(name):
    """A model whose forward takes a mask of this name."""
    namespace = {}
    exec(f"def forward(self, x, {name}=None):\n    return self.moe(x)", namespace)
    kind = type("Model", (nn.Module,), {"forward": namespace["forward"]})
    model = kind()
    model.moe = MoE()
    return model


def observed(model, *inputs, mask=None, **kwargs):
    with RouterObserver(model) as observer:
        observer.mask = mask
        model(*inputs, **kwargs)
    states = observer.statistics["moe"].states()
    return int(states["num_tokens"]), states["load"].tolist()


def expected(model, real):
    ids = model.moe.ids[real.reshape(-1)]
    return int(real.sum()), [int((ids == e).sum()) for e in range(E)]


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("attention_mask", REAL),
        ("attention_mask", REAL.long() * 3),
        ("attention_mask", (CAUSAL & REAL[:, None])[:, None]),
        ("attention_mask", torch.zeros(B, 1, S, S).masked_fill(~(CAUSAL & REAL[:, None])[:, None], -torch.inf)),
        ("src_key_padding_mask", ~REAL),
        ("key_padding_mask", ~REAL),
        ("padding_mask", ~REAL),
        ("key_padding_mask", torch.zeros(B, S).masked_fill(~REAL, -torch.inf)),
    ],
)
def test_padding_is_left_out_whatever_the_mask(name, mask):
    model = model_taking(name)
    x = torch.randn(B, S, D)
    for got in (observed(model, x, mask), observed(model, x=x, **{name: mask})):
        assert got == expected(model, REAL)


@pytest.mark.parametrize("size", [S, B])
def test_a_mask_of_the_attention_alone_leaves_nothing_out(size):
    model = model_taking("attention_mask")
    got = observed(model, torch.randn(B, size, D), torch.ones(size, size).tril().bool())
    assert got == expected(model, torch.ones(B, size, dtype=torch.bool))


def test_a_sequence_that_comes_first():
    model = model_taking("src_key_padding_mask")
    got = observed(model, torch.randn(S, B, D), ~REAL)
    assert got == expected(model, REAL.T)


def test_the_user_s_mask_may_have_document_ids():
    model = model_taking("attention_mask")
    got = observed(model, torch.randn(B, S, D), mask=REAL.long() * 2)
    assert got == expected(model, REAL)
