"""Nothing that fails in the routing ends a forward, changes a weight or leaves a hook."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import io
import pickle
import pkgutil
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from intensive_callbacks import RouterObserver, routing
from intensive_callbacks.boundary import Boundary
from routing.designs import DESIGNS, D, E, K, LinearGate, Megablocks, RoutedCapacity, Torchtitan

MODULES = [importlib.import_module(f"{routing.__name__}.{m.name}") for m in pkgutil.iter_modules(routing.__path__)]
# What torch calls through nothing of ours: the edge itself, which holds three lines.
EDGE = {
    "FunctionWatch.__torch_function__",
    "FunctionWatch.__init__",
    "Hook.__deepcopy__",
    "Hook.__reduce__",
    "attribute",
}


class InjectedError(Exception):
    """What the functions are made to raise."""


def functions():
    """Every function and method of the package: its name and where it stands."""
    for module in MODULES:
        for name, member in vars(module).items():
            if getattr(member, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(member):
                yield name, module, name
            elif inspect.isclass(member):
                for attribute, value in vars(member).items():
                    if isinstance(value, (property, classmethod)) or inspect.isfunction(value):
                        yield f"{name}.{attribute}", member, attribute


INJECTED = {name: (owner, attribute) for name, owner, attribute in functions() if name not in EDGE}


def inject(monkeypatch, name, calls):
    """Replace a function by one that raises, in every place that holds it."""

    def fail(*_, **__):
        calls.append(name)
        raise InjectedError(name)

    owner, attribute = INJECTED[name]
    original = vars(owner)[attribute]
    monkeypatch.setattr(owner, attribute, property(fail) if isinstance(original, property) else fail)
    for module in MODULES:
        for other, value in list(vars(module).items()):
            if value is original:
                monkeypatch.setattr(module, other, fail)
    tables = importlib.import_module("intensive_callbacks.routing.watch")
    for table in (tables.COUNTING, tables.SAMPLING):
        for key, handlers in list(table.items()):
            monkeypatch.setitem(table, key, tuple(fail if handler is original else handler for handler in handlers))


def mixture():
    torch.manual_seed(0)
    model = nn.Sequential(LinearGate(), Megablocks(), RoutedCapacity(), Torchtitan(), nn.Linear(D, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def steps(model, optimizer, numbers):
    for number in numbers:
        x = torch.randn(2, 9, D, generator=torch.Generator().manual_seed(number))
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def observed(boundary, model, optimizer):
    """As a monitor does it: what it calls itself it calls through its boundary, which the hooks share."""
    observer = boundary.call("the observer", RouterObserver, model, boundary=boundary)
    if observer is None:
        steps(model, optimizer, range(3))
        return
    call = functools.partial(boundary.call, "the observer")
    call(observer.attach)
    for number in range(3):
        call(setattr, observer, "sampling", number % 3 == 0)
        call(setattr, observer, "on_sample", [].append if number % 2 else None)
        steps(model, optimizer, [number])
        sums = call(observer.read)
        call(observer.reset)
        if sums is not None:
            call(observer.restore, sums)
            call(sums.by_layer)
    call(observer.detach)
    observer.handles.close()


def hooks_of(model):
    return [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


@pytest.fixture(scope="module")
def weights():
    model, optimizer = mixture()
    steps(model, optimizer, range(3))
    return list(model.parameters())


def test_every_function_may_raise(weights):
    calls = []
    for name in INJECTED:
        model, optimizer = mixture()
        with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning must not end a forward either
            inject(monkeypatch, name, calls)
            observed(Boundary(), model, optimizer)
        assert torch._C._len_torch_function_stack() == 0, name
        assert hooks_of(model) == [], name
        assert all(map(torch.equal, model.parameters(), weights)), name
    assert len(set(calls)) > 80


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.__name__)
def test_a_handler_may_raise_in_the_middle_of_a_forward(design, monkeypatch):
    """Whatever is seen first, the function mode is left at once and the other layer is counted."""
    tables = importlib.import_module("intensive_callbacks.routing.watch")
    broken = nn.ModuleDict({"layer": design()})
    inputs = [torch.randn(1, 12, D), torch.randint(0, 50, (1, 12))][: 1 + (design.__name__ == "Hashed")]
    with RouterObserver(broken, boundary=Boundary()) as observer:
        for name in tables.SAMPLING:
            monkeypatch.setitem(tables.SAMPLING, name, (lambda *_: 1 / 0,))
        with pytest.warns(RuntimeWarning, match="the routing of layer 'layer' failed and is switched off"):
            broken["layer"](*inputs)
        assert torch._C._len_torch_function_stack() == 0
        assert hooks_of(broken) == []
    assert observer.failed == ["layer"]
    assert observer.read().by_layer()["layer"]["num_invalid"] == 1


def test_a_mode_inside_ours_is_left_first(monkeypatch):
    """A layer that fails while somebody else's mode is inside ours is left when the layer returns."""

    class Foreign(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class Block(LinearGate):
        def route(self, x):
            with Foreign():
                return super().route(x)

    tables = importlib.import_module("intensive_callbacks.routing.watch")
    monkeypatch.setitem(tables.SAMPLING, "topk", (lambda *_: 1 / 0,))
    block = Block()
    observer = RouterObserver(nn.Sequential(block)).attach()
    with pytest.warns(RuntimeWarning, match="failed and is switched off"):
        block(torch.randn(1, 9, D))
    assert torch._C._len_torch_function_stack() == 0
    assert hooks_of(block) == []
    observer.detach()


def test_one_layer_fails_and_the_others_are_counted():
    model = nn.Sequential(LinearGate(), LinearGate())

    def read(inputs, output):
        raise RuntimeError("not this one")

    observer = RouterObserver(model, routers={"0.gate": read, "1.gate": lambda _, out: {"expert_ids": out.topk(K)[1]}})
    with observer, pytest.warns(RuntimeWarning, match="the routing of layer '0.gate' failed"):
        model(torch.randn(1, 9, D))
    rows = observer.read().by_layer()
    assert (int(rows["0.gate"]["num_invalid"]), int(rows["0.gate"]["load"].sum())) == (1, 0)
    assert (int(rows["1.gate"]["num_invalid"]), int(rows["1.gate"]["load"].sum())) == (0, 9 * K)


def test_strict_raises_in_the_forward():
    model = nn.Sequential(LinearGate())
    observer = RouterObserver(model, routers={"0.gate": lambda *_: 1 / 0}, boundary=Boundary(strict=True)).attach()
    with pytest.raises(ZeroDivisionError):
        model(torch.randn(1, 9, D))
    observer.detach()


def test_a_reader_leaves_random_state_and_grad_mode():
    def read(inputs, output):
        torch.set_grad_enabled(False)
        torch.randn(3)
        return {"expert_ids": output.topk(K).indices}

    model = nn.Sequential(LinearGate())
    with RouterObserver(model, routers={"0.gate": read}):
        torch.manual_seed(0)
        out = model(torch.randn(1, 9, D))
    drawn = torch.rand(1)
    assert out.requires_grad
    torch.manual_seed(0)
    torch.randn(1, 9, D)
    assert torch.equal(drawn, torch.rand(1))


def test_a_failing_subscriber_is_removed_and_counting_goes_on():
    model = nn.Sequential(LinearGate())
    with RouterObserver(model, on_sample=lambda _: 1 / 0) as observer:
        with pytest.warns(RuntimeWarning, match="on_sample failed"):
            model(torch.randn(1, 9, D))
        model(torch.randn(1, 9, D))
        assert observer.on_sample is None
        samples = []
        observer.on_sample = samples.append
        model(torch.randn(1, 9, D))
        observer.on_sample = None
        model(torch.randn(1, 9, D))
    assert len(samples) == 1
    assert int(observer.statistics["0"].states()["num_tokens"]) == 4 * 9


class Config:
    """A config whose every attribute raises."""

    def __getattr__(self, name):
        raise RuntimeError("the config is not there yet")


class Unset(LinearGate):
    """A property that raises until it is set, and attributes that raise."""

    @property
    def config(self):
        raise RuntimeError("the config is not there yet")

    @property
    def num_experts(self):
        raise ValueError("not set")

    @property
    def args(self):
        return Config()


def test_properties_that_raise_are_absent():
    model = nn.Sequential(Unset())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observer = RouterObserver(model)
    assert [(layer.name, layer.num_experts) for layer in observer.layers] == [("0", E)]


def test_lazy_modules_are_counted_once_they_have_a_shape():
    block = LinearGate()
    block.gate = nn.LazyLinear(E, bias=False)
    block.experts = nn.ModuleList(nn.LazyLinear(D) for _ in range(E))
    model = nn.Sequential(nn.LazyLinear(D), block)
    with RouterObserver(model) as observer:
        assert [(layer.name, layer.num_experts) for layer in observer.layers] == [("1", E)]
        assert observer.layers[0].router_parameters() == []
        model(torch.randn(1, 9, 5))
    load = observer.statistics["1"].states()["load"]
    assert load.tolist() == [sum(e == expert for _, e in block.pairs) for expert in range(E)]


def test_a_layer_whose_search_fails_is_one_without_routers(monkeypatch):
    structure = importlib.import_module("intensive_callbacks.routing.structure")
    original = structure.num_alike

    def fail(module):
        if module is model["a"].experts:
            raise InjectedError
        return original(module)

    monkeypatch.setattr(structure, "num_alike", fail)
    model = nn.ModuleDict({"a": LinearGate(), "b": LinearGate()})
    model["a"].experts = nn.ModuleList(nn.Linear(D, D) for _ in range(3))
    with pytest.warns(RuntimeWarning, match=r"finding the routers of 'a.experts' failed"):
        assert [layer.name for layer in RouterObserver(model).layers] == ["b"]


def test_a_model_that_grows_or_shrinks():
    model = nn.Sequential(LinearGate(), LinearGate())
    with RouterObserver(model) as observer:
        model[1] = nn.Linear(D, D)
        model.append(LinearGate())
        model(torch.randn(9, D))
        sums = observer.read().by_layer()
        with pytest.warns(UserWarning, match="1 never fired"):
            observer.warn_about_unobserved_layers()
    assert {name: int(states["num_tokens"]) for name, states in sums.items()} == {"0": 9, "1": 0}
    assert hooks_of(model) == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_in_mid_training_runs_and_trains(copied):
    model, optimizer = mixture()
    observer = RouterObserver(model).attach()
    steps(model, optimizer, range(2))
    average = copied(model)
    tokens = observer.read().num_tokens
    steps(average, torch.optim.SGD(average.parameters(), lr=0.1), range(2, 4))
    assert observer.read().num_tokens == tokens
    steps(model, optimizer, range(2, 4))
    assert all(map(torch.equal, average.parameters(), model.parameters()))
    observer.detach()


def test_a_saved_module_needs_nothing_of_this_library():
    layer = nn.TransformerEncoderLayer(4, 1, 4)
    layer.gate, layer.experts = nn.Linear(4, 3), nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    with RouterObserver(layer, routers={"": lambda *_: {}}).attach():
        file = io.BytesIO()
        torch.save(layer, file)
    code = (
        "import sys, io, torch; sys.modules['intensive_callbacks'] = None;"
        "model = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False);"
        "print(tuple(model(torch.ones(2, 1, 4)).shape), len(model._forward_hooks) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=file.getvalue(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "(2, 1, 4) True"


def test_a_paused_observer_sees_nothing():
    model, samples = nn.Sequential(LinearGate(), LinearGate()), []
    observer = RouterObserver(model, on_sample=samples.append)

    def aside(*_):
        """An extra forward in the middle of one, and of a layer."""
        handle.remove()
        with observer.paused(), torch.no_grad():
            model(torch.randn(50, D))

    with observer:
        handle = model[1].gate.register_forward_hook(aside)
        model(torch.randn(9, D))
    assert [sample.num_tokens for sample in samples] == [9, 9]
    assert {int(s.states()["num_tokens"]) for s in observer.statistics.values()} == {9}
    assert all(int(s.states()["load"].sum()) == 9 * K for s in observer.statistics.values())
