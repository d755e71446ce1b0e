"""What a mixture of experts is found by, whatever its parts are called; loads against the rows the experts computed."""

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver, count_parameters

D, E, T = 8, 4, 40


class Mixture(nn.Module):
    """Two of four experts a token; the router is what a subclass makes of it."""

    def __init__(self, widths=(16,) * E):
        super().__init__()
        self.top_k = 2
        self.gate = self.router()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(D, w), nn.GELU(), nn.Linear(w, D)) for w in widths)

    def router(self):
        return nn.Linear(D, E)

    def scores(self, x):
        return self.gate(x)

    def forward(self, x):
        weights, ids = self.scores(x).softmax(-1).topk(self.top_k)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            tokens, slots = torch.where(ids == number)
            out = out.index_add(0, tokens, weights[tokens, slots, None] * expert(x[tokens]))
        return out


class Keys(nn.Module):
    """A router whose matrix is named for the experts that it scores."""

    def __init__(self):
        super().__init__()
        self.expert_keys = nn.Linear(D, E, bias=False)

    def forward(self, x):
        return self.expert_keys(x)


class KeysNamedExpert(Mixture):
    def router(self):
        return Keys()


class Unequal(Mixture):
    def __init__(self):
        super().__init__((4, 8, 16, 32))


class ZeroCompute(Mixture):
    """Two further classes of the router compute nothing; a width of the experts is a multiple of all classes."""

    def __init__(self):
        super().__init__((12,) * E)

    def router(self):
        return nn.Linear(D, E + 2)


class Retrieval(nn.Module):
    """A model that keeps the k of its recall@k; its mixture does not say how many experts a token gets."""

    def __init__(self):
        super().__init__()
        self.k, self.block = 1, Mixture()
        del self.block.top_k

    def forward(self, x):
        self.block.top_k = 2
        out = self.block(x)
        del self.block.top_k
        return out


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Mixture()
        self.same_block = self.block

    def forward(self, x):
        return self.block(x)


@pytest.mark.parametrize("design", [Mixture, KeysNamedExpert, Unequal, ZeroCompute, Retrieval, TwoNames])
def test_the_load_is_what_the_experts_computed(design):
    torch.manual_seed(0)
    model, rows = design(), {}
    experts = next(module for module in model.modules() if hasattr(module, "experts")).experts
    for number, expert in enumerate(experts):
        expert.register_forward_pre_hook(lambda _, inputs, number=number: rows.update({number: len(inputs[0])}))
    with RouterObserver(model) as observer:
        model(torch.randn(T, D))
    (layer,) = observer.layers
    states = observer.statistics[layer.name].states()
    assert states["load"][:E].tolist() == [rows[number] for number in range(E)]
    assert (layer.num_experts, int(states["num_tokens"])) == (E, T)


@pytest.mark.parametrize(
    ("design", "active"),
    [
        (Mixture, 36 + 2 * 280),  # the gate, and two experts of 8·16 + 16 + 16·8 + 8
        (KeysNamedExpert, 32 + 2 * 280),
        (ZeroCompute, 54 + 2 * 212),
        (TwoNames, 36 + 2 * 280),
    ],
)
def test_active_parameters_are_those_of_two_experts(design, active):
    assert count_parameters(design()).active == active


def test_a_k_that_is_not_of_routing_is_not_taken_for_it():
    with pytest.warns(UserWarning, match="does not say how many experts"):
        assert count_parameters(Retrieval()).active == 36 + E * 280
