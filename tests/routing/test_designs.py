"""Mixtures written in torch alone: found without help, and read token by token."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver
from intensive_callbacks.routing.watch import SAMPLING
from routing import designs

T = 30


def observe(block):
    torch.manual_seed(1)
    model = nn.ModuleDict({"layer": block})
    samples = []
    inputs = [torch.randn(3, T // 3, designs.D)]
    if isinstance(block, designs.Hashed):
        inputs.append(torch.randint(0, 50, (3, T // 3)))
    with RouterObserver(model, on_sample=samples.append) as observer:
        block(*inputs)
    return observer, samples


def pairs_of(sample):
    if sample.expert_ids is None:
        return {(int(t), int(e)) for t, e in sample.dispatch.nonzero()}
    return {(t, int(e)) for t, ids in enumerate(sample.expert_ids) for e in ids if e >= 0}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("design", designs.DESIGNS, ids=lambda design: design.__name__)
def test_ids_are_those_that_the_experts_received(design):
    block = design()
    observer, samples = observe(block)
    assert [(layer.name, layer.num_experts) for layer in observer.layers] == [("layer", designs.E)]
    assert len(samples) == 1
    assert pairs_of(samples[0]) == block.pairs
    load = observer.statistics["layer"].states()["load"]
    assert load.tolist() == [sum(e == expert for _, e in block.pairs) for expert in range(designs.E)]


@pytest.mark.parametrize("design", designs.DESIGNS, ids=lambda design: design.__name__)
def test_ids_alone_are_read_as_well_forward_after_forward(design):
    block = design()
    with RouterObserver(nn.ModuleDict({"layer": block})) as observer:
        observer.sampling = False
        for size in (T, 9, designs.E, 12):  # also as many tokens as experts
            block.pairs.clear()
            observer.reset()
            inputs = [torch.randn(1, size, designs.D), torch.randint(0, 50, (1, size))]
            block(*inputs[: 1 + isinstance(block, designs.Hashed)])
            load = observer.statistics["layer"].states()["load"]
            assert load.tolist() == [sum(e == expert for _, e in block.pairs) for expert in range(designs.E)]


@pytest.mark.parametrize("design", designs.DESIGNS, ids=lambda design: design.__name__)
def test_parameters_of_experts_and_router(design):
    block = design()
    (layer,) = RouterObserver(nn.ModuleDict({"layer": block})).layers
    experts = {name for name, p in block.named_parameters() if any(p is q for q in layer.expert_parameters())}
    routers = {name for name, p in block.named_parameters() if any(p is q for q in layer.router_parameters())}
    others = {name for name, _ in block.named_parameters()} - experts - routers
    assert all("expert" in name or name in ("w1", "w2") for name in experts)
    assert experts
    assert all("gate" in name or "router" in name for name in routers)
    assert bool(routers) == (design is not designs.Hashed)
    assert all("kv" in name or "noise" in name for name in others)


def test_every_expert_of_a_soft_mixture_is_active():
    block = designs.Soft()
    observer, (sample,) = observe(block)
    assert sample.expert_ids is None
    torch.testing.assert_close(sample.probabilities, block.combine.view(T, designs.E, 2).sum(-1))
    assert observer.statistics["layer"].states()["load"].tolist() == [T] * designs.E


def test_dropped_selections_are_counted():
    block = designs.Capacity()
    observer, (sample,) = observe(block)
    states = observer.statistics["layer"].states()
    assert int(states["num_dropped"]) == T - len(block.pairs) > 0
    assert int((sample.expert_ids == -1).sum()) == T - len(block.pairs)


def test_a_capacity_that_training_alone_has():
    class Block(designs.RoutedCapacity):
        def forward(self, x):
            flat = x.reshape(-1, designs.D)
            return super().forward(x) if self.training else self.loop(flat, *self.gate(flat)[::-1])

    block = Block()
    with RouterObserver(nn.ModuleDict({"layer": block})) as observer:
        observer.sampling = False
        for training in (False, True, False, True):
            observer.reset()
            block.train(training).pairs.clear()
            block(torch.randn(1, T, designs.D))
            states = observer.statistics["layer"].states()
            assert int(states["load"].sum()) == len(block.pairs)
            assert int(states["num_dropped"]) == T * designs.K - len(block.pairs)
            assert bool(states["num_dropped"]) == training


def test_a_maximum_of_a_scalar_selects_nothing():
    class Block(designs.LinearGate):
        def forward(self, x):
            return super().forward(x * x.sum().max(dim=0).values)

    block = Block()
    _, (sample,) = observe(block)
    assert pairs_of(sample) == block.pairs


def test_a_failing_watch_warns_and_the_forward_goes_on(monkeypatch):
    monkeypatch.setitem(SAMPLING, "topk", (lambda *_: 1 / 0,))
    block = designs.LinearGate()
    observer = RouterObserver(nn.ModuleDict({"layer": block})).attach()
    with pytest.warns(RuntimeWarning, match="the routing of layer 'layer' failed and is switched off: ZeroDivisionErr"):
        block(torch.randn(1, T, designs.D))
    assert torch._C._len_torch_function_stack() == 0
    assert observer.failed == ["layer"]
    observer.detach()


def test_scores_are_those_of_the_design():
    block = designs.Biased()
    _, (sample,) = observe(block)
    torch.manual_seed(1)
    logits = block.gate(torch.randn(T, designs.D))
    torch.testing.assert_close(sample.logits, logits.detach())
    scores = logits.detach().sigmoid()
    torch.testing.assert_close(sample.probabilities, scores / scores.sum(-1, keepdim=True))


@pytest.mark.parametrize(
    "dense",
    [
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False),
        nn.Sequential(nn.Conv1d(4, 4, 3), nn.LSTM(4, 4), nn.Linear(4, 2)),
        nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(8, 8) for _ in range(2)), "classifier": nn.Linear(8, 2)}),
        nn.ModuleDict({"gate_proj": nn.Linear(8, 3), "heads": nn.ModuleList(nn.Linear(8, 8) for _ in range(3))}),
    ],
    ids=["transformer", "convolution", "classifier", "gated"],
)
def test_dense_models_have_no_router(dense):
    assert RouterObserver(dense).layers == []


def test_layers_of_a_dense_transformer_have_no_router():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with torch.device("meta"):
        assert RouterObserver(transformers.LlamaForCausalLM(config)).layers == []
