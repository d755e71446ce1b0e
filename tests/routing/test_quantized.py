"""Experts whose weights are packed in buffers alone, as GPTQ's and AWQ's, are found, counted and sized."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver, count_parameters
from routing.designs import D, E, K, LinearGate

WIDTH = 24


class Packed(nn.Module):
    """Eight 4-bit weights in an int32, with scales and zeros: buffers, no parameter."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        for name, shape in self.packed_shapes(inputs, outputs).items():
            self.register_buffer(name, torch.randint(-(2**31), 2**31, shape, dtype=torch.int64).to(torch.int32))
        self.register_buffer("scales", torch.rand(1, outputs) * 0.02)

    def unpacked(self):
        shifts = torch.arange(0, 32, 4, dtype=torch.int32)
        return self.fours(self.qweight, shifts).reshape(self.in_features, self.out_features) - 8.0

    def forward(self, x):
        return x @ (self.unpacked() * self.scales)


class Gptq(Packed):
    """Packed along the inputs."""

    @staticmethod
    def packed_shapes(inputs, outputs):
        return {"qweight": (inputs // 8, outputs), "qzeros": (1, outputs // 8), "g_idx": (inputs,)}

    @staticmethod
    def fours(packed, shifts):
        return (packed[:, None] >> shifts[:, None]) & 15


class Awq(Packed):
    """Packed along the outputs."""

    @staticmethod
    def packed_shapes(inputs, outputs):
        return {"qweight": (inputs, outputs // 8), "qzeros": (1, outputs // 8)}

    @staticmethod
    def fours(packed, shifts):
        return (packed[..., None] >> shifts) & 15


class PackedMixture(LinearGate):
    """The usual loop over experts of two packed layers each."""

    def __init__(self, linear):
        super().__init__()
        parts = (nn.Sequential(linear(D, WIDTH), nn.ReLU(), linear(WIDTH, D)) for _ in range(E))
        self.experts = nn.ModuleList(parts)


class PackedGate(PackedMixture):
    """The gate is packed, too: its buffers have no dimension of E."""

    def __init__(self, linear):
        super().__init__(linear)
        self.gate = nn.Linear(D, E)  # replaced by a layer of 8 outputs, of which E are scores
        self.gate = linear(D, 8)
        self.gate.out_features = E

    def route(self, x):
        weights, ids = (x @ self.gate_matrix()).softmax(-1).topk(K, dim=-1)
        return weights, ids

    def gate_matrix(self):
        self.gate.out_features = 8
        matrix = (self.gate.unpacked() * self.gate.scales)[:, :E]
        self.gate.out_features = E
        return matrix


class StackedExperts(nn.Module):
    """The packed weights of all experts in one buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("qweight", torch.zeros(E, D // 8, D, dtype=torch.int32))
        self.register_buffer("scales", torch.ones(E, 1, D))

    def forward(self, x, selected_experts, weights):
        return x * weights.sum(-1, keepdim=True)


class StackedMixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(D, E), StackedExperts()

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(K)
        self.ids = ids
        return self.experts(x, ids, weights)


@pytest.mark.parametrize("linear", [Gptq, Awq])
@pytest.mark.parametrize("mixture", [PackedMixture, PackedGate])
def test_experts_in_buffers_are_found_and_counted(mixture, linear):
    torch.manual_seed(0)
    block = mixture(linear)
    with RouterObserver(nn.Sequential(block)) as observer:
        assert [(layer.num_experts, layer.experts) for layer in observer.layers] == [(E, (block.experts,))]
        block(torch.randn(30, D))
    load = observer.statistics["0"].states()["load"].tolist()
    assert load == [sum(expert == e for _, expert in block.pairs) for e in range(E)]


@pytest.mark.parametrize("linear", [Gptq, Awq])
def test_packed_experts_are_sized_by_their_weights(linear):
    count = count_parameters(nn.Sequential(PackedMixture(linear)), num_experts_per_token=K)
    assert count.routed == E * 2 * D * WIDTH
    assert count.active == K * 2 * D * WIDTH + D * E


def test_packed_weights_of_all_experts_in_one_buffer():
    block = StackedMixture()
    with RouterObserver(nn.Sequential(block)) as observer:
        assert [layer.num_experts for layer in observer.layers] == [E]
        block(torch.randn(30, D))
    expected = torch.bincount(block.ids.flatten(), minlength=E)
    assert torch.equal(observer.statistics["0"].states()["load"], expected)


def test_lists_without_weights_are_no_experts():
    model = nn.ModuleDict({"gate": nn.Linear(D, 3), "experts": nn.ModuleList(nn.ReLU() for _ in range(3))})
    assert RouterObserver(model).layers == []
