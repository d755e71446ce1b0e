"""No failure inside the footprint ends or changes the training that is measured, or leaves something behind."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import sys
import warnings
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode, _len_torch_dispatch_stack

from intensive_callbacks import footprint
from intensive_callbacks.boundary import Boundary
from intensive_callbacks.footprint import energy
from intensive_callbacks.footprint.cost import TrainingCost
from intensive_callbacks.footprint.flop_counter import FlopCounter
from intensive_callbacks.footprint.parameters import count_parameters, parameter_fingerprint
from intensive_callbacks.footprint.speed import Pace

WIDTH = 4
MODULES = [
    importlib.import_module(f"{footprint.__name__}.{each.name}") for each in pkgutil.iter_modules(footprint.__path__)
]


def functions():
    """Every function and method of the package, as the object that holds it and its name."""
    for module in MODULES:
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(value):
                yield module, name
            elif inspect.isclass(value):
                members = vars(value).items()
                yield from ((value, each) for each, member in members if inspect.isfunction(member))


# torch calls it in the middle of the user's forward: it is the boundary there.
FUNCTIONS = [each for each in functions() if each[1] != "__torch_dispatch__"]


class Net(nn.Module):
    """An eager layer, and one whose forward looks like a compiled one."""

    def __init__(self):
        super().__init__()
        self.eager, self.part = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        forward = partial(nn.Linear.forward, self.part)
        forward._torchdynamo_orig_callable = nn.Linear.forward
        self.part.forward = forward

    def forward(self, x):
        return self.part(self.eager(x).relu())


def train(boundary=None):
    """Four steps of three shapes, measured by those who get a boundary; the weights at the end."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    call = (boundary or Boundary()).call
    if boundary is not None:
        call("counting the parameters", count_parameters, model)
        call("counting the parameters", parameter_fingerprint, model)
    cost = boundary and call("the cost", TrainingCost, model, nullcontext, lambda *_: None, boundary)
    pace = boundary and call("the pace", Pace, model, boundary=boundary)
    for length in (2, 3, 2, 5):
        x = torch.randn(3, length, WIDTH)
        if cost is not None:
            call("the cost", cost.begin, x.shape, 3 * length, off=cost.cancel)
        loss = model(x).square().mean()
        if cost is not None:
            call("the cost", cost.end, off=cost.cancel)
        loss.backward()
        optimizer.step()
        for method in ("pause", "resume", "read") if pace is not None else ():
            call("the pace", getattr(pace, method))
    if cost is not None:
        call("the cost", cost.cancel)
    assert list(vars(model.part)) == list(vars(Net().part))
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def nothing_is_left():
    hooks = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
    return _len_torch_dispatch_stack() == 0 and not any(hooks) and torch.is_grad_enabled()


def breaks(*_, **__):
    raise LookupError("on purpose")


class Pynvml(SimpleNamespace):
    """A counter of a GPU that dies when it has been read often enough."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, reads):
        super().__init__(left=reads)

    def nvmlDeviceGetTotalEnergyConsumption(self, _):  # noqa: N802 - NVML's name
        if self.left == 0:
            raise self.NVMLError("GPU is lost")
        self.left -= 1
        return 5_000


@pytest.fixture
def with_energy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Pynvml(1000))
    monkeypatch.setattr(energy, "_handles", lambda _devices: (["a GPU"], ""))


@pytest.mark.parametrize(("holder", "name"), FUNCTIONS, ids=lambda each: getattr(each, "__name__", each))
def test_training_survives_each_function_that_raises(holder, name, monkeypatch, with_energy):
    expected = train()
    monkeypatch.setattr(holder, name, breaks)
    boundary = Boundary()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(train(boundary), expected)
    assert nothing_is_left()
    assert len(caught) == len(boundary.failed)
    assert all(str(each.message).startswith("intensive_callbacks: ") for each in caught)


@pytest.mark.parametrize("name", ["_count", "_is_composite", "_owners", "enter", "leave", "add"])
def test_a_forward_survives_a_broken_counter(name, monkeypatch):
    model, x = Net(), torch.randn(2, WIDTH)
    expected = model(x)
    counter = FlopCounter(model)
    monkeypatch.setattr(counter.mode, name, breaks)
    with pytest.warns(RuntimeWarning, match="counting the FLOPs failed and is switched off: LookupError"), counter:
        assert torch.equal(model(x), expected)
    assert nothing_is_left()
    with pytest.raises(ValueError, match="counting the FLOPs failed: on purpose"):
        counter.result()


def test_strict_raises_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr("intensive_callbacks.footprint.counting_mode.CountingMode._count", breaks)
    model, x = Net(), torch.randn(2, WIDTH)
    cost = TrainingCost(model, nullcontext, lambda *_: None, Boundary(strict=True))
    cost.begin(x.shape, 2)
    with pytest.raises(LookupError, match="on purpose"):
        model(x)
    cost.cancel()
    assert nothing_is_left()


def test_a_formula_that_fails_leaves_its_operator_uncounted(monkeypatch):
    from intensive_callbacks.footprint.flop_formulas import FORMULAS

    monkeypatch.setitem(FORMULAS, "aten::mm", breaks)
    model, x = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)), torch.randn(2, WIDTH)
    with (
        pytest.warns(RuntimeWarning, match="counting the FLOPs of aten::mm failed: LookupError"),
        FlopCounter() as counter,
    ):
        model(x)
    assert counter.result().uncounted == {"aten::mm": 1}
    assert counter.result().total == 2 * 2 * WIDTH * WIDTH


class Passing(TorchDispatchMode):
    """A dispatch mode of the user's own."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_under_a_mode_of_the_user_nothing_is_counted_or_left():
    """Ours cannot be left below theirs: it lets everything pass and goes when theirs has gone."""
    model, x = nn.Linear(WIDTH, WIDTH), torch.randn(2, WIDTH)
    cost = TrainingCost(model, nullcontext, lambda *_: None)
    cost.begin(x.shape, 2)
    with Passing():
        model(x)
        with pytest.warns(RuntimeWarning, match="counting the FLOPs failed and is switched off.*entered after"):
            cost.end()
    assert cost.sums == {"flops": 0, "positions": 0}
    cost.begin(x.shape, 2)
    assert nothing_is_left()
    model(x)
    cost.end()
    assert cost.sums == {"flops": 0, "positions": 0}


def test_a_gpu_that_is_lost_is_one_warning_and_no_joules(monkeypatch):
    monkeypatch.setattr(energy, "_handles", lambda _devices: (["a GPU"], ""))
    monkeypatch.setitem(sys.modules, "pynvml", Pynvml(reads=3))
    times = iter(range(100))
    pace = Pace(nn.Linear(2, 2), clock=lambda: next(times))
    assert pace.read() == (1, 0.0)
    with pytest.warns(RuntimeWarning, match="reading the energy failed and is switched off: NVMLError: GPU") as caught:
        readings = [pace.read(), pace.read()]
    assert [(seconds, math.isnan(joules)) for seconds, joules in readings] == [(1, True), (1, True)]
    assert len(caught) == 1


def test_an_energy_meter_warns_when_its_gpu_is_lost(monkeypatch):
    monkeypatch.setattr(energy, "_handles", lambda _devices: (["a GPU"], ""))
    monkeypatch.setitem(sys.modules, "pynvml", Pynvml(reads=1))
    with pytest.warns(RuntimeWarning, match="reading the energy failed"), energy.EnergyMeter([0]) as meter:
        pass
    assert meter.joules is None
