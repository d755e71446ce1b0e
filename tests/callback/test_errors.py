"""Bad input is refused before training; what fails in training is a warning, and training is as without it."""

import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import Metric

from callback.runs import LogCalls, Recorder, fit
from digits import DigitsClassifier
from intensive_callbacks import ConfigurationEntropyScore, IntensiveMetricsCallback, Tap

P3 = "intensive/p3_score"


def watching(**settings):
    return IntensiveMetricsCallback(**{"every_n_steps": 4, "random_baseline": 0.1, "benchmark": None, **settings})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, got 0"),
        ({"random_baseline": 10.0}, "random_baseline must be a fraction in (0, 1)"),
        ({"random_baseline": "guess"}, "must be a fraction, \"measure\" or None, got 'guess'"),
        ({"observe": "always"}, 'observe must be "sampled" or "every_step", got \'always\''),
        ({"metrics": ["P4"]}, "no metric has the key or symbol 'P4'; there are P3 (intensive/p3_score)"),
        ({"metrics": "P3"}, 'metrics must be "default" or a list'),
        ({"metrics": ["QC3"]}, "QC3 needs a signal from inside the model"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_at_once(settings, says):
    with pytest.raises((ValueError, KeyError), match=re.escape(says)):
        watching(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"accuracy": "val/acc"}, "accuracy='val/acc' is not logged in validation; there are ['val/accuracy']"),
        ({"routers": "layers.*.gate"}, "layers.*.gate"),
        ({"taps": [Tap("nose", lambda i, o: o, "QC3")]}, "a Tap names the module 'nose', but the model has only embed"),
        ({"metrics": ["R3"], "random_baseline": None}, "R3 need the accuracy of chance; pass random_baseline="),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_training(settings, says):
    recorder = Recorder()
    with pytest.raises(ValueError, match=re.escape(says)):
        fit(watching(**settings), recorder)
    assert recorder.losses == []


def test_routing_asked_for_on_a_dense_model_is_refused():
    class Dense(DigitsClassifier):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(32, 32)])

    with pytest.raises(ValueError, match="CES need a router and the model shows none"):
        fit(watching(metrics=["P3", "CES"]), model=Dense())
    callback = watching()
    fit(callback, model=Dense(), max_epochs=1)
    assert not any(key.startswith("routing/") for key in callback.history.newest())


class InPercent(DigitsClassifier):
    def validation_step(self, batch, _):
        images, labels = batch
        self.log("val/accuracy", 100 * (self(images).argmax(-1) == labels).float().mean())


def test_an_accuracy_in_percent_is_refused_before_training():
    with pytest.raises(
        ValueError, match=r"'val/accuracy' must be a fraction in \[0, 1\], got .*; divide percent by 100"
    ):
        fit(watching(), model=InPercent())


class Broken(Metric):
    """Cannot compute."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, accuracy):
        if self.where == "update":
            raise RuntimeError("broken metric")
        self.total += accuracy

    def compute(self):
        raise RuntimeError("broken metric")


class BrokenLogger(LogCalls):
    def log_metrics(self, metrics, step=None):
        if any(key.startswith("intensive/") for key in metrics):
            raise ConnectionError("no network")
        super().log_metrics(metrics, step)


def fail(*_):
    raise RuntimeError("broken on purpose")


FAULTS = {
    "metric, compute": (
        {"metrics": ["P3", Broken("compute")]},
        None,
        "intensive_callbacks: Broken failed: RuntimeError: broken metric",
    ),
    "metric, update": (
        {"metrics": ["P3", Broken("update")]},
        None,
        "intensive_callbacks: Broken failed: RuntimeError: broken metric",
    ),
    "tap": (
        {"taps": [Tap("head", fail, ConfigurationEntropyScore(4))]},
        None,
        "intensive_callbacks: the tap on 'head' into CES failed and is switched off: RuntimeError",
    ),
    "num_tokens": (
        {"num_tokens": fail},
        None,
        "intensive_callbacks: num_tokens failed and is switched off: RuntimeError: broken on purpose",
    ),
    "accuracy callable": ({"accuracy": fail}, None, "intensive_callbacks: the accuracy callable failed: RuntimeError"),
    "accuracy": (
        {"accuracy": lambda *_: 97.0},
        None,
        "intensive_callbacks: the accuracy failed: ValueError: accuracy must be a fraction .*divide percent by 100",
    ),
    "logger": (
        {},
        BrokenLogger(),
        "intensive_callbacks: BrokenLogger, log_values failed and is switched off: ConnectionError: no network",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_warning_and_training_is_as_without_it(fault):
    settings, logger, says = FAULTS[fault]
    callback, other = watching(**settings), LogCalls()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with_fault = fit(callback, logger=[logger, other] if logger else other).lightning_module
    named = [str(each.message) for each in caught if issubclass(each.category, RuntimeWarning)]
    assert sum(bool(re.match(says, message)) for message in named) == 1
    assert len(named) == 1
    without = fit().lightning_module
    for one, another in zip(with_fault.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, another)
    if "accuracy" not in fault:
        assert [step for step, values in other.calls if P3 in values] == [9, 19], "the rest goes on"


@pytest.mark.parametrize("fault", FAULTS)
def test_strict_raises(fault):
    settings, logger, _ = FAULTS[fault]
    with pytest.raises((RuntimeError, ValueError, ConnectionError)):
        fit(watching(strict=True, **settings), logger=logger or LogCalls())


def test_an_undefined_value_is_nan_with_one_warning():
    class OneExpert(DigitsClassifier):
        def __init__(self):
            super().__init__()
            for block in self.blocks:
                block.gate, block.top_k = nn.Linear(32, 1), 1
                block.experts = block.experts[:1]

    callback = watching(routers={"blocks.*.gate": lambda inputs, output: {"expert_ids": output.argmax(-1, True)}})
    with pytest.warns(RuntimeWarning) as caught:
        fit(callback, model=OneExpert())
    named = [str(each.message) for each in caught if "config_entropy" in str(each.message)]
    assert len(named) == 1
    assert "undefined (NaN)" in named[0]
    assert (
        callback.history.newest()["intensive/config_entropy"] != callback.history.newest()["intensive/config_entropy"]
    )


def test_usage_of_a_tap():
    """Predicted digits through a tap: their evenness, from the validation, as a brute force counts it."""
    seen = []

    class Watched(DigitsClassifier):
        def validation_step(self, batch, _):
            if not self.trainer.sanity_checking:
                seen.append(F.one_hot(self(batch[0]).argmax(-1), 10).sum(0))
            super().validation_step(batch, _)

    tap = Tap("head", lambda inputs, output: output.argmax(-1), ConfigurationEntropyScore(num_experts=10))
    callback = watching(taps=[tap], metrics=["P3"])
    fit(callback, model=Watched(), max_epochs=1)
    share = torch.stack(seen).sum(0).double()
    share = share[share > 0] / share.sum()
    expected = float(-(share * share.log()).sum() / torch.tensor(10.0).double().log())
    assert callback.history.newest()["intensive/config_entropy"] == pytest.approx(expected)
