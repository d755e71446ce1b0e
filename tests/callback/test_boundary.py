"""Every internal function made to raise, one at a time, in a fit: none ends it, changes a weight or leaves a hook."""

import contextlib
import inspect
import pkgutil
import sys
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import intensive_callbacks
from callback.runs import LogCalls, num_hooks
from intensive_callbacks import (
    ConfigurationEntropyScore,
    IntensiveMetricsCallback,
    RouterTap,
    ShannonEntropy,
    Sink,
    Tap,
)

# A mode's method is where torch itself calls the library: what it calls is made to raise.
EDGES = {"__torch_dispatch__", "__torch_function__"}
# What the user or Lightning calls directly is the boundary itself.
EVENTS = ("on_", "setup", "teardown", "state_dict", "load_state_dict")
OUTSIDE = ("boundary.", *(f"callback.IntensiveMetricsCallback.{name}" for name in EVENTS))


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 4), nn.ModuleList(nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(2)
        return sum((weights * (ids == i)).sum(-1, keepdim=True) * each(x) for i, each in enumerate(self.experts))


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Mixture(), Mixture()]), nn.Linear(6, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(F.dropout(x, 0.1, self.training))
        return self.head(x)

    def training_step(self, batch, _):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val/accuracy", (self(batch[0]).argmax(-1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def data(num_examples):
    x = torch.randn(num_examples, 6, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x[:, :3].argmax(-1)), 8)


def watching():
    taps = [
        Tap("head", lambda inputs, output: output.argmax(-1), ConfigurationEntropyScore(3)),
        RouterTap("blocks.0", lambda sample, batch: sample.expert_ids[:, 0], ShannonEntropy(4)),
    ]
    return IntensiveMetricsCallback(
        every_n_steps=2, random_baseline=1 / 3, taps=taps, metrics=["default", "B_crit"], benchmark=None, alert=True
    )


def fit(folder, callbacks, during):
    """A fit of a mixture with everything on; the model, its hooks and what ended the fit."""
    pl.seed_everything(0, verbose=False)
    model = Classifier()
    keeping = pl.callbacks.ModelCheckpoint(folder, every_n_train_steps=3)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": LogCalls()}
    trainer = pl.Trainer(
        max_epochs=1,
        accumulate_grad_batches=2,
        callbacks=[*callbacks, keeping],
        default_root_dir=folder,
        num_sanity_val_steps=1,
        **quiet,
    )
    ended = None
    with warnings.catch_warnings(), during:
        warnings.simplefilter("ignore")
        try:
            trainer.fit(model, data(48), data(16))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ended the fit
            ended = error
    return model, num_hooks(model), ended


def functions():
    """Every function and method of the package, by its qualified name: where it stands and how to reach it."""
    for info in pkgutil.walk_packages(intensive_callbacks.__path__, "intensive_callbacks."):
        module = sys.modules.get(info.name)
        if module is None or "cli" in info.name:
            continue
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value.__module__ == info.name:
                yield f"{info.name[20:]}.{name}", module, name, value
            elif inspect.isclass(value) and value.__module__ == info.name:
                for attribute, member in list(vars(value).items()):
                    if inspect.isfunction(member) and member.__module__ == info.name:
                        yield f"{info.name[20:]}.{name}.{attribute}", value, attribute, member


class Called:
    """The code objects that run while it is on."""

    def __init__(self):
        self.codes = set()

    def __enter__(self):
        sys.setprofile(lambda frame, event, _: self.codes.add(frame.f_code) if event == "call" else None)

    def __exit__(self, *_):
        sys.setprofile(None)


class Raising:
    """A function replaced, wherever it was imported to, by one that raises."""

    def __init__(self, owner, name, function):
        def fail(*args, **kwargs):
            self.calls += 1
            raise RuntimeError("made to fail")

        self.calls, self.replacement, self.function = 0, fail, function
        modules = [m for n, m in list(sys.modules.items()) if n.startswith("intensive_callbacks")]
        holders = [owner] if inspect.isclass(owner) else modules
        self.places = [(h, n) for h in holders for n, v in list(vars(h).items()) if v is function]

    def __enter__(self):
        for holder, name in self.places:
            setattr(holder, name, self.replacement)

    def __exit__(self, *_):
        for holder, name in self.places:
            setattr(holder, name, self.function)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The weights without the callback, and the code that runs with it."""
    folder, called = tmp_path_factory.mktemp("plain"), Called()
    fit(folder, [watching()], called)
    model, hooks, _ = fit(folder, [], contextlib.nullcontext())
    assert hooks == (0, 0, 0, 0)
    return model.state_dict(), called.codes


PARTS = {
    "monitor": ("monitor.", "callback.", "trainer_state."),
    "routing": ("routing.",),
    "footprint": ("footprint.",),
    "metrics": ("functional.", "metrics."),
    "the end": ("benchmark.", "sinks.", "dashboards.", "cards.", "distributed.", "untrusted."),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_no_function_that_raises_ends_a_fit(part, plain, tmp_path, monkeypatch):
    weights, codes = plain
    if part != "the end":  # printing the table takes half of the time of such a fit
        monkeypatch.setattr("intensive_callbacks.callback.ConsoleSink", Sink)
    tried, bad = 0, {}
    for name, owner, attribute, function in functions():
        if inspect.unwrap(function).__code__ not in codes or not name.startswith(PARTS[part]):
            continue
        if name.startswith(OUTSIDE) or attribute in EDGES:
            continue
        callback, raising = watching(), Raising(owner, attribute, function)
        model, hooks, ended = fit(tmp_path, [callback], raising)
        tried += raising.calls > 0
        same = all(map(torch.equal, weights.values(), model.state_dict().values()))
        if ended is not None or hooks != (0, 0, 0, 0) or not same:
            bad[name] = f"{ended!r}, {hooks} hooks, weights {'equal' if same else 'changed'}"
    assert not bad, f"{len(bad)} of {tried}: {bad}"
    assert tried > 20


def test_every_part_is_made_to_raise():
    parts = tuple(prefix for prefixes in PARTS.values() for prefix in prefixes)
    left = {name for name, *_ in functions() if not name.startswith((*parts, *OUTSIDE))}
    # Of which a Lightning fit calls nothing.
    assert {name.partition(".")[0] for name in left} <= {"losses", "command", "trainer_callback"}
