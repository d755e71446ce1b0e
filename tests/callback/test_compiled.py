"""Models with compiled parts: their FLOPs are counted, and they train bit for bit as without the callback."""

import signal

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from callback.runs import LogCalls, Recorder, fit, num_hooks
from callback.test_harmless import trained, watching
from digits import DigitsClassifier
from intensive_callbacks import Monitor

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),  # dynamo asks
]

BATCH, WIDTH = 32, 48
BODY = 2 * WIDTH * WIDTH * 2
FLOPS = 2 * 64 * WIDTH + BODY + 2 * WIDTH * 10  # of an example, by hand


class Backend:
    """Compiles with one of torch's backends, and counts how often."""

    def __init__(self, name="aot_eager"):
        torch._dynamo.reset()
        self.compile = torch._dynamo.lookup_backend(name)
        self.num_graphs = 0

    def __call__(self, graph, inputs):
        self.num_graphs += 1
        return self.compile(graph, inputs)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm, self.drop = nn.BatchNorm1d(WIDTH), nn.Dropout(0.2)

    def forward(self, hidden):
        return hidden + self.down(self.drop(self.norm(self.up(hidden)).relu()))


class Classifier(pl.LightningModule):
    def __init__(self, compiled=lambda model: None):
        super().__init__()
        self.embed, self.body, self.head = nn.Linear(64, WIDTH), Body(), nn.Linear(WIDTH, 10)
        compiled(self)

    def forward(self, images):
        return self.head(self.body(self.embed(images)))

    def training_step(self, batch, _):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val/accuracy", (self(batch[0]).argmax(-1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def part_as_module(backend):
    return lambda model: setattr(model, "body", torch.compile(model.body, backend=backend))


def part_in_place(backend):
    return lambda model: model.body.compile(backend=backend)


def part_as_forward(backend):
    return lambda model: setattr(model.body, "forward", torch.compile(model.body.forward, backend=backend))


def whole_in_place(backend):
    return lambda model: model.compile(backend=backend)


def whole_as_forward(backend):
    return lambda model: setattr(model, "forward", torch.compile(model.forward, backend=backend))


def nested(backend):
    def compiled(model):
        model.body.up.compile(backend=backend)
        model.body.down = torch.compile(model.body.down, backend=backend)
        model.body = torch.compile(model.body, backend=backend)

    return compiled


WAYS = [part_as_module, part_in_place, part_as_forward, whole_in_place, whole_as_forward, nested]


def test_the_hand_count_is_that_of_the_eager_model():
    callback = watching()
    fit(callback, model=Classifier())
    assert callback.history.rows()[0]["baseline/flops_per_example"] == FLOPS


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16-mixed", "accumulate_grad_batches": 2}], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_training_is_bit_identical_and_compiled_as_often(way, settings):
    ends = []
    for callbacks in ([watching()], []):
        pl.seed_everything(7, verbose=False)
        backend = Backend()
        ends.append(trained(callbacks, model=Classifier(way(backend)), **settings))
        ends[-1].append(torch.tensor(backend.num_graphs))
        if callbacks:
            assert callbacks[0].history.rows()[0]["baseline/flops_per_example"] == FLOPS
            assert callbacks[0].monitor.facts.num_flops == FLOPS
    watched, alone = ends
    assert watched[-1] > 0
    assert len(watched) == len(alone)
    assert all(torch.equal(*pair) for pair in zip(watched, alone, strict=True))


@pytest.mark.parametrize("part", ["gate", "block", "experts"])
def test_no_token_is_routed_twice(part):
    def windows(*, compiled):
        pl.seed_everything(7, verbose=False)
        model = DigitsClassifier()
        for block in model.blocks if compiled else ():
            inner = {"gate": [block.gate], "block": [block], "experts": block.experts}[part]
            for module in inner:
                module.forward = torch.compile(module.forward, backend=Backend("eager"))
        logger = LogCalls()
        callback = watching(per_layer=True, metrics=["CES", "routing/load_entropy", "P2F"], observe="every_step")
        recorder = Recorder()
        fit(callback, recorder, model=model, logger=logger, max_steps=4, log_every_n_steps=1)
        loads = [row["loads"] for row in callback.monitor.heatmap.rows()]
        values = callback.history.newest()
        return recorder.losses, loads, {key: values[key] for key in values if not key.startswith("cost/")}  # its speed

    (losses, loads, newest), (eager_losses, eager_loads, eager_newest) = windows(compiled=True), windows(compiled=False)
    assert losses == eager_losses
    assert loads == eager_loads
    assert sum(loads[0]["blocks.0"]) == 3 * BATCH * 2  # three steps, two experts each
    assert newest == pytest.approx(eager_newest, rel=1e-12, nan_ok=True)


class Broken(nn.Linear):
    """Raises while it runs compiled, at one of its calls."""

    def __init__(self, error):
        super().__init__(WIDTH, WIDTH)
        self.error = error

    def compiled(self, graph, _):
        def run(*args):
            raise self.error

        return run

    def forward(self, hidden):
        return super().forward(hidden)


@pytest.mark.parametrize("error", [ValueError("on purpose"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("way", [part_as_module, part_in_place, part_as_forward])
def test_nothing_is_left_when_a_compiled_part_raises(way, error):
    handler = signal.getsignal(signal.SIGINT)
    torch._dynamo.reset()
    model = Classifier()
    model.body = Broken(error)
    way(model.body.compiled)(model)
    before = num_hooks(model), dict(vars(model.body))
    try:
        with pytest.raises(SystemExit if isinstance(error, KeyboardInterrupt) else ValueError):
            fit(watching(), model=model, num_sanity_val_steps=0)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (num_hooks(model), dict(vars(model.body))) == before


@pytest.mark.parametrize("way", [lambda model: model, *WAYS])
def test_a_plain_loop_counts_the_forward_alone(way):
    model = Classifier()
    if way in WAYS:
        way(Backend("eager"))(model)
    images = torch.rand(BATCH, 64)
    with Monitor(model, every_n_steps=1, benchmark=None) as monitor:
        monitor.observe((images, torch.zeros(BATCH)))
        loss = model(images).sum()
        assert num_hooks(model)[2] == 0  # the backward pass and the optimizer are not watched
        loss.backward()
        assert monitor.log(1)["baseline/flops_per_example"] == FLOPS


def test_a_plain_loop_that_calls_a_compiled_model_in_its_place():
    """The monitor has the model itself, and nothing tells where the forward pass ends: nothing is counted then."""
    model = nn.Sequential(nn.Embedding(8, WIDTH), nn.Linear(WIDTH, WIDTH))
    compiled, ids = torch.compile(model, backend=Backend("eager")), torch.randint(8, (BATCH, 3))
    with Monitor(model, every_n_steps=1, benchmark=None) as monitor:
        monitor.observe(ids)
        loss = compiled(ids).sum()
        assert num_hooks(model)[2] == 0
        loss.backward()
        assert monitor.log(1)["baseline/total_params"] == 8 * WIDTH + WIDTH * (WIDTH + 1)
    assert "baseline/flops_per_token" not in monitor.history.newest()


def test_a_plain_loop_over_what_torch_compile_returns():
    model = torch.compile(Body(), backend=Backend("eager"))
    hidden = torch.rand(BATCH, WIDTH)
    with Monitor(model, every_n_steps=1, benchmark=None) as monitor:
        monitor.observe(hidden)
        model(hidden).sum().backward()
        assert monitor.log(1)["baseline/flops_per_example"] == BODY


@pytest.mark.filterwarnings("ignore:.*was configured so validation hooks:UserWarning")
def test_flops_of_a_compiled_step_are_not_counted():
    callback = watching()
    model = torch.compile(Classifier(), backend=Backend("eager"))
    with pytest.warns(RuntimeWarning, match="counting the FLOPs failed.*a compiled training step hides them") as told:
        fit(callback, model=model)
    assert sum("hides them" in str(each.message) for each in told) == 1
    assert callback.monitor.facts.num_flops is None


def test_a_scripted_model_says_that_its_flops_are_not_counted():
    callback = watching()
    model = Classifier()
    model.body = torch.jit.script(model.body)
    with pytest.warns(RuntimeWarning, match="counting the FLOPs failed.*a ScriptModule hides them"):
        fit(callback, model=model)
    assert callback.monitor.facts.num_flops is None
