"""Compiled parts run once more uncompiled to be counted: the same sum as eager ones, and no trace afterwards."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _len_torch_dispatch_stack

from intensive_callbacks.footprint.compiled import TrainingFlopCounter

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),  # dynamo asks
]

BATCH, WIDTH = 6, 8
LINEAR = 2 * BATCH * WIDTH * WIDTH
X = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(0))


class Backend:
    """Compiles nothing, and counts what it was given."""

    def __init__(self):
        torch._dynamo.reset()
        self.num_graphs = self.num_runs = 0

    def __call__(self, graph, _):
        self.num_graphs += 1

        def run(*args):
            self.num_runs += 1
            assert _len_torch_dispatch_stack() == 0
            return graph.forward(*args)

        return run


class Net(nn.Sequential):
    """A class of the user's own: what is torch's own, module.compile() leaves alone."""

    def forward(self, x):
        for module in self:
            x = module(x)
        return x


def linear():
    return Net(nn.Linear(WIDTH, WIDTH))


def body():
    return Net(linear(), nn.BatchNorm1d(WIDTH), nn.Dropout(), linear())


def as_module(module, backend):
    return torch.compile(module, backend=backend)


def in_place(module, backend):
    module.compile(backend=backend)
    return module


def as_forward(module, backend):
    module.forward = torch.compile(module.forward, backend=backend)
    return module


def as_class(module, backend):
    class Compiled(type(module)):
        @torch.compile(backend=backend)
        def forward(self, x):
            return super().forward(x)

    module.__class__ = Compiled
    return module


def nested(module, backend):
    module[0] = as_module(module[0], backend)
    module[3] = in_place(module[3], backend)
    return as_forward(module, backend)


WAYS = [as_module, in_place, as_forward, as_class, nested]


class Mixed(nn.Module):
    """Eager, compiled, eager, and the compiled part once more."""

    def __init__(self, part):
        super().__init__()
        self.first, self.part, self.last = nn.Linear(WIDTH, WIDTH), part, nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.part(self.last(self.part(self.first(x).relu())))


def states(model):
    state = {name.replace("_orig_mod.", ""): value.clone() for name, value in model.state_dict().items()}
    gradients = {name.replace("_orig_mod.", ""): parameter.grad for name, parameter in model.named_parameters()}
    return {**state, **{f"gradient of {name}": gradient for name, gradient in gradients.items()}}


def attributes(model):
    return [{name: id(value) for name, value in vars(module).items()} for module in model.modules()]


def step(model, counter=None):
    if counter:
        counter.start()
    try:
        loss = model(X).square().sum()
    finally:
        if counter:
            counter.stop()
    loss.backward()
    return loss


@pytest.mark.parametrize("way", WAYS)
def test_the_count_is_the_eager_one_and_nothing_else_changes(way):
    original = Mixed(body())
    ends = []
    for counted in (True, False):
        model = copy.deepcopy(original)
        backend = Backend()
        model.part = way(model.part, backend)
        torch.manual_seed(1)
        before = attributes(model)
        counter = TrainingFlopCounter(model) if counted else None
        losses = [step(model, counter), step(model)]
        assert attributes(model) == before
        ends.append([*losses, *states(model).values(), torch.get_rng_state(), backend.num_graphs, backend.num_runs])
        if counter:
            assert counter.result().total == 2 * LINEAR + 2 * 2 * LINEAR
    watched, alone = ends
    assert all(torch.equal(*map(torch.as_tensor, pair)) for pair in zip(watched, alone, strict=True))
    assert watched[-2] > 0


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_is_compiled_as_a_whole(way):
    model = way(body(), Backend())
    counter = TrainingFlopCounter(model)
    step(model, counter)
    assert counter.result().total == 2 * LINEAR


def test_a_compiled_part_called_inside_and_outside_another():
    def graphs(*, counted):
        backend = Backend()
        shared = in_place(linear(), backend)
        model = nn.ModuleList([in_place(Net(shared, nn.ReLU()), backend), shared])
        counter = TrainingFlopCounter(model).start() if counted else None
        model[1](model[0](X))
        if counter:
            counter.stop()
            assert counter.result().total == 2 * LINEAR
        model[1](model[0](X))
        return backend.num_graphs, backend.num_runs

    assert graphs(counted=True) == graphs(counted=False) == (2, 4)


@torch.compiler.disable
def draw():
    return random.random() + np.random.rand()  # noqa: NPY002 - what layers draw from


class Careless(nn.Module):
    """A forward with effects of every kind on itself, its inputs and the random states."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("mask", torch.ones(WIDTH))
        self.steps, self.losses, self.cache, self.seen = 0, [], {}, torch.zeros(())

    def forward(self, x, calls):
        self.steps += 1
        self.seen += 1
        self.mask += 1
        self.cache.setdefault("weight", 2 * self.linear.weight)
        calls.append(draw())
        self.losses.append(self.cache["weight"].sum())
        x += 1
        return self.linear(x * self.mask) * self.cache["weight"].sum() + torch.rand(WIDTH)


def test_side_effects_of_a_forward_happen_once():
    ends = []
    for counted in (True, False):
        torch.manual_seed(2)
        random.seed(2)
        np.random.seed(2)  # noqa: NPY002 - the same
        part = Careless()
        fired = []
        part.linear.register_forward_hook(lambda *_, fired=fired: fired.append(1))
        part = as_forward(part, "eager")
        first = nn.Linear(WIDTH, WIDTH)
        model = nn.ModuleList([first, part])
        counter = TrainingFlopCounter(model).start() if counted else None
        calls = []
        try:
            loss = part(first(X) * 1, calls).sum()
        finally:
            if counter:
                counter.stop()
        if counter:
            assert counter.result().total == 2 * LINEAR
        loss.backward()
        assert (part.steps, len(part.losses), len(calls), len(fired), float(part.seen)) == (1, 1, 1, 1, 1.0)
        draws = [torch.rand(()), torch.tensor(random.random()), torch.tensor(np.random.rand())]  # noqa: NPY002
        gradients = [parameter.grad for parameter in model.parameters()]
        ends.append([loss, *gradients, part.mask, part.losses[0], torch.tensor(calls), *draws])
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_the_extra_run_leaves_the_autocast_cache_alone():
    gradients = []
    for counted in (True, False):
        torch.manual_seed(3)
        model = as_forward(body(), "eager")
        with torch.autocast("cpu", torch.bfloat16):
            step(model, TrainingFlopCounter(model) if counted else None)
            assert torch.is_autocast_cache_enabled()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_a_buffer_saved_for_backward_survives_the_extra_run():
    """Its value is restored after the extra run without a new version for autograd."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.full((WIDTH,), 3.0))

        def forward(self, x):
            return x * self.scale

    part = in_place(Scaled(), "eager")
    linear = nn.Linear(WIDTH, WIDTH)
    model = nn.ModuleList([linear, part])
    counter = TrainingFlopCounter(model).start()
    out = part(part(linear(X)))
    counter.stop()
    out.sum().backward()
    assert torch.equal(linear.bias.grad, torch.full((WIDTH,), 9.0 * BATCH))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_the_compiled_part_raises(way, error):
    model = Mixed(body())

    def backend(graph, _):
        def run(*_):
            raise error

        return run

    torch._dynamo.reset()
    model.part = way(model.part, backend)
    before = attributes(model)
    with pytest.raises(error):
        step(model, TrainingFlopCounter(model))
    assert attributes(model) == before
    assert _len_torch_dispatch_stack() == 0


def test_ctrl_c_during_the_extra_run_leaves_nothing():
    class Stopped(nn.Linear):
        def forward(self, x):
            if not torch.compiler.is_compiling():
                self.training = False
                raise KeyboardInterrupt
            return super().forward(x)

    model = Mixed(as_forward(Stopped(WIDTH, WIDTH), Backend()))
    before = attributes(model)
    with pytest.raises(KeyboardInterrupt):
        step(model, TrainingFlopCounter(model))
    assert attributes(model) == before
    assert _len_torch_dispatch_stack() == 0
    assert torch.is_grad_enabled()
    step(model)


def test_a_part_that_fails_uncompiled_still_runs_compiled():
    class Once(nn.Linear):
        calls = 0

        def forward(self, x):
            if not torch.compiler.is_compiling():
                raise OverflowError("only in a graph")
            return super().forward(x)

    model = Mixed(as_forward(Once(WIDTH, WIDTH), Backend()))
    counter = TrainingFlopCounter(model)
    step(model, counter)
    with pytest.raises(ValueError, match=r"could not be run uncompiled: OverflowError.*only in a graph"):
        counter.result()


def test_under_a_mode_of_somebody_else_it_is_not_counted():
    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = in_place(nn.Linear(WIDTH, WIDTH), "eager")

        def forward(self, x):
            with Mode():
                return self.part(x)

    model = Inside()
    before = attributes(model)
    counter = TrainingFlopCounter(model)
    step(model, counter)
    assert attributes(model) == before
    with pytest.raises(ValueError, match="entered after the FlopCounter is still on"):
        counter.result()


def test_uncountable_models_are_refused():
    with pytest.raises(ValueError, match="a ScriptModule hides them"):
        TrainingFlopCounter(Mixed(torch.jit.script(nn.Linear(WIDTH, WIDTH))))

    class FSDPModule(nn.Linear):
        """What a sharded module is called."""

    TrainingFlopCounter(Mixed(FSDPModule(WIDTH, WIDTH)))
    with pytest.raises(ValueError, match="a sharded one cannot be run uncompiled"):
        TrainingFlopCounter(Mixed(in_place(FSDPModule(WIDTH, WIDTH), "eager")))


def test_a_training_step_that_may_be_what_is_compiled_is_refused():
    """Strategies of Lightning for several processes call it through the module's forward."""

    class Stepping(Net):
        def training_step(self, batch, _):
            return self(batch)

    model = in_place(Stepping(linear()), "eager")
    TrainingFlopCounter(model)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="a compiled training step hides them"):
            TrainingFlopCounter(model)
    finally:
        torch.distributed.destroy_process_group()
