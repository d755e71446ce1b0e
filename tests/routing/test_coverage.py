"""Selections are counted at the router and expected by the model's forward, so that counting twice shows."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.utils.checkpoint import checkpoint

from intensive_callbacks import RouterObserver
from intensive_callbacks.functional import routing_coverage_compute
from intensive_callbacks.routing.context import RoutingContext
from intensive_callbacks.routing.coverage import describe_coverage
from routing.designs import D, K, LinearGate
from routing.test_observer import Einsum


class Tower(nn.Module):
    """Three modules around a layer: the model, its backbone and its blocks; checkpointed where a test asks."""

    class Block(nn.Module):
        def __init__(self, design):
            super().__init__()
            # A recomputation stops at what backward needs last: that is behind the layer.
            self.mlp, self.last = design(), nn.Linear(D, D)

        def forward(self, x):
            return self.last(x + self.mlp(x).view_as(x)).sigmoid()

    class Backbone(nn.Module):
        def __init__(self, design):
            super().__init__()
            self.blocks = nn.ModuleList(Tower.Block(design) for _ in range(2))
            self.reentrant = None

        def forward(self, x):
            for block in self.blocks:
                x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
            return x

    def __init__(self, design=LinearGate):
        super().__init__()
        self.backbone, self.head = self.Backbone(design), nn.Linear(D, 1)

    def forward(self, x):
        return self.head(self.backbone(x))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch._dynamo.reset()


def coverages(observer):
    rows = observer.read().by_layer().values()
    return [float(routing_coverage_compute(row["load"], row["num_dropped"], row["num_expected"])) for row in rows]


def tokens(num=5):
    return torch.randn(4, num, D, requires_grad=True)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("sampling", [False, True])
def test_recomputation_counted_twice_reads_two(monkeypatch, sampling, reentrant):
    model = Tower()
    model.backbone.reentrant = reentrant
    with RouterObserver(model) as observer:
        observer.sampling = sampling
        model(tokens()).sum().backward()
        assert coverages(observer) == [1, 1]
        observer.reset()
        # The fault: hooks that do not know a recomputation from a forward.
        monkeypatch.setattr(RoutingContext, "is_listening", property(lambda context: context.attached))
        for num in (5, 9):
            model(tokens(num)).sum().backward()
        assert coverages(observer) == [2, 2]
        assert "each selection is counted 2 times" in describe_coverage(observer.read())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("tells", [False, True])
def test_compiled_blocks_in_checkpoints_that_nobody_tells_of(tells):
    model = Tower(Einsum)
    model.backbone.reentrant = False
    with RouterObserver(model) as observer:
        for block in model.backbone.blocks:
            block.compile(backend="aot_eager", fullgraph=True)
        for _ in range(3):
            loss = model(tokens()).sum()
            observer.in_backward = tells
            loss.backward()
            observer.in_backward = False
    counted = int(observer.statistics["backbone.blocks.0.mlp"].states()["load"].sum())
    assert coverages(observer) == [counted / (3 * 20 * K)] * 2
    assert not tells or counted == 3 * 20 * K


def test_parts_of_the_model_that_are_called_alone_read_one():
    model = Tower()
    with RouterObserver(model) as observer:
        model.backbone.blocks[0].mlp(tokens(3)).sum().backward()  # before the model ever ran
        for _ in range(2):
            model(tokens()).sum().backward()
        with torch.no_grad():
            model.backbone(tokens())
            model.backbone.blocks[1](tokens())
        model.backbone(tokens(7)).sum().backward()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert coverages(observer) == [1, 1]


def test_a_forward_that_raises_leaves_nothing_running():
    model = Tower()
    with RouterObserver(model) as observer:
        handle = model.head.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(tokens())
        handle.remove()
        assert observer._context.running is None
        model(tokens()).sum().backward()
        assert coverages(observer) == [1, 1]


def test_only_the_outermost_module_stays_hooked():
    model = Tower()
    with RouterObserver(model):
        for _ in range(3):
            model(tokens())
        assert len(model._forward_pre_hooks) == 1
        inner = [model.backbone, *model.backbone.blocks]
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in inner)
