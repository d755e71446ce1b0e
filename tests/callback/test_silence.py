"""What a run cannot give is one line, once."""

import math
import sys
import warnings

import pytest
import torch
from torch.nn import functional as F

from callback.runs import fit
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback
from intensive_callbacks.footprint import speed


class Manual(DigitsClassifier):
    """Steps an optimizer by hand: Lightning's own, or a raw one, whose steps Lightning does not count."""

    def __init__(self, raw):
        super().__init__()
        self.automatic_optimization, self.raw = False, raw

    def training_step(self, batch, _):
        optimizer = self.optimizers(use_pl_optimizer=not self.raw)
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]))
        optimizer.step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("every_n_steps", [4, 50])
@pytest.mark.parametrize("raw", [True, False])
def test_raw_optimizers_are_named_once(raw, every_n_steps):
    callback = IntensiveMetricsCallback(every_n_steps=every_n_steps, benchmark=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(callback, model=Manual(raw))
    said = [str(each.message) for each in caught if "no optimizer step was counted" in str(each.message)]
    assert len(said) == raw
    assert all("self.optimizers()" in text for text in said)


def said(settings, **fitted):
    """The library's own lines of a run."""
    callback = IntensiveMetricsCallback(**{"random_baseline": 0.1, "benchmark": None, **settings})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(callback, **fitted)
    return callback, [text for each in caught if (text := str(each.message)).startswith("intensive_callbacks:")]


def test_generalization_efficiency_of_one_validation_an_epoch_is_one_line():
    callback, lines = said({"every_n_steps": 4, "metrics": ["default", "GE"]}, max_epochs=3)
    assert not any("generalization" in key for key in callback.history.newest())
    (line,) = [each for each in lines if "GE" in each]
    assert line == (
        "intensive_callbacks: GE was asked for and is not logged: it needs accuracies at two numbers of training "
        "examples, one at most half the other, while each example is new"
    )


def test_energy_of_a_gpu_without_nvml_is_one_line(monkeypatch):
    monkeypatch.setattr(speed, "_devices_of", lambda model: [0])
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    callback, lines = said({"every_n_steps": 4})
    assert not any("joule" in key for key in callback.history.newest())
    (line,) = [each for each in lines if "energy" in each]
    assert line == (
        "intensive_callbacks: the energy of training is not measured: NVML is not installed; "
        "pip install 'intensive-callbacks[energy]'"
    )


def test_nothing_is_said_of_energy_without_a_gpu():
    _, lines = said({"every_n_steps": 4})
    assert [each for each in lines if "energy" in each] == []


def test_a_metric_of_energy_that_is_asked_for_without_a_gpu_is_one_line():
    _, lines = said({"every_n_steps": 4, "metrics": ["P3", "P/J"]})
    (line,) = [each for each in lines if "P/J" in each]
    assert "no GPU counts energy here" in line


def test_routing_of_a_run_shorter_than_n_steps_is_logged_at_the_end():
    callback, lines = said({"every_n_steps": 500}, max_epochs=1)
    assert not math.isnan(callback.history.newest()["routing/load_entropy"])
    assert [each for each in lines if "rout" in each] == []


def test_an_accuracy_callable_is_asked_at_the_end():
    steps = []

    def accuracy(trainer, module):
        steps.append(trainer.global_step)
        return 0.5

    callback = IntensiveMetricsCallback(accuracy, every_n_steps=8, random_baseline=0.1, benchmark=None)
    fit(callback, max_epochs=1, limit_val_batches=0)
    assert steps == [8, 10]
    assert [row["step"] for row in callback.history.rows() if "intensive/p3_score" in row] == [8, 10]
