"""Every family of transformers: its routers are found, and what is read is what its experts compute."""

from __future__ import annotations

import operator
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from intensive_callbacks import RouterObserver
from routing.families import build, families, run

transformers = pytest.importorskip("transformers")

NO_LOGITS = {"doge"}  # product keys: no score of an expert exists before the selection
PROBABILITIES = {"gemma4", "diffusion_gemma"}  # what they record as router_logits are probabilities
# Its experts one-hot the dispatch mask as if it were ids, so that experts 0 and 1 compute whatever the router says.
NOT_ITS_ROUTERS = {"nllb_moe"}


class Computed(TorchFunctionMode):
    """Which expert computes which token, from the products with slices of the experts' own weights."""

    def __init__(self, layer):
        super().__init__()
        weights = [p for p in layer.expert_parameters() if p.dim() >= 2]
        self.slices = weights[0].detach()
        if self.slices.dim() == 2:  # experts one below the other
            self.slices = self.slices.view(layer.num_experts, -1, self.slices.shape[-1])
        self.inputs = None
        self.pairs = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in ("linear", "matmul", "__matmul__", "bmm") and args[1].dim() >= 2:
            self.record(args[0], args[1])
        return func(*args, **(kwargs or {}))

    def record(self, rows, weight):
        if weight.shape == self.slices.shape:  # all experts at once: a row of zeros is a token that was not sent
            tokens = rows.view(len(weight), -1, rows.shape[-1]).ne(0).any(-1)
            self.pairs |= {(int(t), int(e)) for e, t in tokens.nonzero()}
            return
        for matrix in (weight, weight.T) if weight.dim() == 2 else ():
            if matrix.shape == self.slices.shape[1:]:
                expert = (self.slices == matrix).flatten(1).all(1).nonzero()
                if len(expert):
                    self.pairs |= {(token, int(expert[0])) for token in self.tokens(rows)}
                    return

    def tokens(self, rows):
        same = (self.inputs[None] == rows.reshape(-1, 1, rows.shape[-1])).all(-1)
        assert same.any(1).all()
        return same.int().argmax(1).tolist()


def watch_experts(layer):
    """The layer's computation recorded by hooks on its experts, or by what they multiply."""
    if isinstance(layer.experts[0], (nn.ModuleDict, nn.ModuleList)):
        return watch_modules(layer)
    computed = Computed(layer)
    first = layer.experts[0]
    if layer.num_experts_per_token and type(layer.block).__name__.startswith("JetMoe"):
        first = layer.router

    def enter(module, args, kwargs):
        inputs = (*args, *kwargs.values())[0]
        computed.inputs = inputs.detach().clone().reshape(-1, inputs.shape[-1])
        if module is layer.experts[0]:
            computed.__enter__()

    first.register_forward_pre_hook(enter, with_kwargs=True)
    if first is not layer.experts[0]:
        layer.experts[0].register_forward_pre_hook(lambda *_: computed.__enter__() and None)
    layer.experts[0].register_forward_hook(lambda *_: computed.__exit__(None, None, None))
    return computed


def watch_modules(layer):
    computed = Computed(layer)

    def enter(module, args, kwargs):
        computed.inputs = (*args, *kwargs.values())[0].detach().clone()

    layer.experts[0].register_forward_pre_hook(enter, with_kwargs=True)
    for expert, module in enumerate(layer.experts[0].children()):
        module.register_forward_pre_hook(
            lambda _, args, expert=expert: computed.pairs.update((t, expert) for t in computed.tokens(args[0]))
        )
    return computed


def recorded_logits(model):
    """What transformers itself records as the logits of each router module."""
    recorders = {}
    for module in model.modules():
        recorder = (getattr(module, "_can_record_outputs", None) or {}).get("router_logits")
        for one in recorder if isinstance(recorder, list) else [recorder]:
            if one is not None:
                recorders[one.target_class] = one.index
    seen = {}
    for name, module in model.named_modules():
        for kind, index in recorders.items():
            if type(module) is kind:
                module.register_forward_hook(
                    lambda _, __, output, name=name, index=index: seen.update({name: _pick(output, index)})
                )
    return seen


def _pick(output, index):
    return (output[index] if isinstance(output, tuple) else output).detach().clone()


@pytest.mark.parametrize("family", families())
def test_what_is_read_is_what_the_experts_compute(family):
    model = build(family)
    for module in model.modules():
        if hasattr(getattr(module, "config", None), "_experts_implementation"):
            module.config._experts_implementation = "eager"
    samples = {}
    observer = RouterObserver(model, on_sample=lambda sample: samples.update({sample.layer: sample}))
    layers = {layer.name: layer for layer in observer.layers if "vision_moe" not in layer.name}
    held = {id(module) for layer in layers.values() for module in layer.experts}
    experts = [m for name, m in model.named_modules() if type(m).__name__.endswith("Experts") and "shared" not in name]
    assert {id(module) for module in experts if "vision" not in family_part(model, module)} <= held
    computed = {name: watch_experts(layer) for name, layer in layers.items() if not has_tables(layer)}
    recorded = recorded_logits(model)
    observer.attach()
    run(model)
    with (
        pytest.warns(UserWarning, match="vision_moe never fired")
        if len(layers) < len(observer.layers)
        else nullcontext()
    ):
        observer.detach()
    if family in NOT_ITS_ROUTERS:
        return
    assert set(samples) == set(layers)
    for name, sample in samples.items():
        layer = layers[name]
        read = pairs_of(sample, layer)
        assert read
        if name in computed:
            assert read == computed[name].pairs - skipped(layer, sample), name
        assert sample.logits is not None or sample.probabilities is not None or family in NO_LOGITS
        if sample.probabilities is not None:
            torch.testing.assert_close(sample.probabilities.sum(-1), torch.ones(sample.num_tokens))
    names = {id(module): name for name, module in model.named_modules()}
    for layer in layers.values():
        theirs = recorded.get(names.get(id(layer.router)))
        if theirs is not None and family not in PROBABILITIES | NO_LOGITS:
            theirs = theirs.reshape(-1, theirs.shape[-1])
            torch.testing.assert_close(samples[layer.name].logits.float(), theirs.float(), rtol=1e-4, atol=1e-5)


def observe_twice(observer, model):
    with observer:
        run(model)
        run(model)


@pytest.mark.parametrize("family", sorted(NOT_ITS_ROUTERS))
def test_experts_that_compute_something_else_are_counted(family):
    model = build(family)
    observer = RouterObserver(model)
    rows = {layer.name: [0] * layer.num_experts for layer in observer.layers}
    for layer in observer.layers:
        for number, expert in enumerate(layer.experts[0].children()):
            expert.register_forward_pre_hook(
                lambda _, inputs, name=layer.name, number=number: operator.setitem(
                    rows[name], number, rows[name][number] + len(inputs[0])
                )
            )
    with pytest.warns(UserWarning, match="read from other tensors than its experts follow"):
        observe_twice(observer, model)
    assert {name: states["load"].int().tolist() for name, states in observer.read().by_layer().items()} == rows


@pytest.mark.parametrize("family", families())
def test_ids_alone_are_counted_alike(family):
    model = build(family)
    with warnings.catch_warnings(), RouterObserver(model) as observer:
        warnings.simplefilter("ignore")  # a vision tower does not run
        run(model)
        sampled = observer.read().by_layer()
        observer.reset()
        observer.sampling = False
        run(model)
        run(model)
        for name, states in observer.read().by_layer().items():
            for key in ("load", "num_tokens", "num_dropped"):
                assert torch.equal(states[key], 2 * sampled[name][key]), (name, key)
            assert not states["num_logits"]


def family_part(model, module):
    return next(name for name, candidate in model.named_modules() if candidate is module)


def pairs_of(sample, layer):
    if sample.expert_ids is None:
        return {(int(t), int(e)) for t, e in sample.dispatch.nonzero()}
    return {(t, int(e)) for t, ids in enumerate(sample.expert_ids) for e in ids if 0 <= e < layer.num_experts}


def has_tables(layer):
    return isinstance(layer.experts[0], nn.Embedding)


def skipped(layer, sample):
    """A token that chose to compute nothing, shown to its experts as expert 0 with no weight (ZAYA)."""
    if not layer.num_zero_experts:
        return set()
    return {(t, 0) for t, ids in enumerate(sample.expert_ids) if (ids >= layer.num_experts).all()}
