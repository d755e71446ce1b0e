"""A mixture in which nothing was found is named once; a dense model is not."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver
from intensive_callbacks.routing.discovery import discover
from intensive_callbacks.routing.lookalikes import lookalikes
from intensive_callbacks.routing.readers import register_router_reader
from routing.designs import D, LinearGate
from routing.families import build, families

N = 5


class Called(nn.Module):
    """Named a mixture; its parts bear no name that says so."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.pick = nn.Linear(D, N * 8), nn.Linear(N * 8, D), nn.Linear(D, 3)

    def forward(self, x):
        return self.down(self.up(x))


SoftMoE = type("SoftMoE", (Called,), {})
MixtureOfAdapters = type("MixtureOfAdapters", (Called,), {})


class Numbered(Called):
    """Knows how many experts it has."""

    def __init__(self):
        super().__init__()
        self.num_experts = N


class Branches(Called):
    """A list of equal branches and a layer that scores them."""

    def __init__(self):
        super().__init__()
        self.mix, self.branches = nn.Linear(D, N), nn.ModuleList(nn.Linear(D, D) for _ in range(N))


class Bank(Called):
    """A module with adapters in one tensor, and a layer that scores them."""

    def __init__(self):
        super().__init__()
        self.mix, self.bank = nn.Linear(D, N), nn.Module()
        self.bank.register_parameter("pool", nn.Parameter(torch.zeros(N, D, D)))


class Depth(nn.Module):
    """As many layers as classes: dense."""

    def __init__(self):
        super().__init__()
        self.layers, self.classifier = nn.ModuleList(nn.Linear(D, D) for _ in range(N)), nn.Linear(D, N)
        self.heads = nn.ModuleList(nn.Linear(D, D) for _ in range(N))


class MoeDecoderLayer(nn.Sequential):
    """A dense layer of a model that has mixtures elsewhere."""


@pytest.mark.parametrize("kind", [SoftMoE, MixtureOfAdapters, Numbered, Branches, Bank], ids=lambda k: k.__name__)
def test_a_mixture_that_nothing_finds_is_named_once(kind):
    model = nn.ModuleDict({"first": LinearGate(), "deep": nn.Sequential(nn.Linear(D, D), kind(), kind())})
    with pytest.warns(UserWarning, match=r"module 'deep\.1' \(and 1 more\) looks like a mixture") as caught:
        observer = RouterObserver(model)
    assert len(caught) == 1
    assert [layer.name for layer in observer.layers] == ["first"]


@pytest.mark.parametrize(
    "model",
    [Depth(), MoeDecoderLayer(nn.Linear(D, D)), nn.TransformerDecoderLayer(D, 2, 8), nn.LSTM(D, D), nn.Conv2d(3, N, 3)],
    ids=lambda model: type(model).__name__,
)
def test_a_dense_model_is_not_named(model):
    assert lookalikes(model, discover(model)) == []


def test_a_mixture_with_a_reader_is_not_named():
    class Own(Branches):
        """Has a reader of its own."""

    register_router_reader(Own, lambda inputs, output: {"expert_ids": output})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RouterObserver(nn.Sequential(Own()))
        RouterObserver(nn.Sequential(Branches()), routers=None)


@pytest.mark.parametrize("family", families())
def test_families_with_layers_found_are_not_named(family):
    model = build(family)
    assert lookalikes(model, discover(model)) == []


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit", "llama", "t5", "clip", "wav2vec2", "swin", "mamba", "resnet"])
def test_dense_models_of_transformers_are_not_named(name):
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name))
    assert discover(model) == []
    assert lookalikes(model, []) == []
