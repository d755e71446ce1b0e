"""Memory by scope: resident weights and training, against bytes counted by hand."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from callback.runs import fit
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback, Monitor
from intensive_callbacks.footprint.training_memory import optimizers_of

MER, TRAINING, PEAK = "intensive/memory_efficiency", "intensive/memory_efficiency_training", "cost/peak_memory"
NUM_PARAMS = 4 * 3 + 3 + 3 * 2 + 2  # of the network below, 4 bytes each


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def watched(model, *optimizers, num_steps=4, first_step=1, **options):
    values = {}
    with Monitor(model, every_n_steps=2, benchmark=None, **options) as monitor:
        for step in range(first_step, first_step + num_steps):
            monitor.observe(torch.ones(5, 4))
            model(torch.ones(5, 4)).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            values |= monitor.log(step, accuracy=0.5)
    return values


def adam(parameters):
    return torch.optim.Adam(parameters, 1e-3)


def momentum(parameters):
    return torch.optim.SGD(parameters, 1e-3, momentum=0.9)


def plain(parameters):
    return torch.optim.SGD(parameters, 1e-3)


# Weights and gradients take 4 bytes a parameter each, Adam two moments and a step of 4 bytes for each tensor.
@pytest.mark.parametrize(
    ("kind", "num_bytes"), [(plain, 8 * NUM_PARAMS), (momentum, 12 * NUM_PARAMS), (adam, 16 * NUM_PARAMS + 4 * 4)]
)
def test_weights_gradients_and_optimizer_states(kind, num_bytes):
    model = network()
    values = watched(model, kind(model.parameters()))
    assert values[PEAK] == num_bytes
    assert values[MER] == pytest.approx(50 / (4 * NUM_PARAMS / 1e9))
    assert values[TRAINING] == pytest.approx(50 / (num_bytes / 1e9))


def test_frozen_layers_have_neither_gradients_nor_states():
    model = network()
    model[0].requires_grad_(False)
    values = watched(model, adam(model[2].parameters()))
    assert values[PEAK] == 4 * NUM_PARAMS + 12 * 8 + 4 * 2


def test_every_optimizer_of_the_model_counts_and_no_other():
    model, other = network(), network()
    others = adam(other.parameters())
    other(torch.ones(5, 4)).sum().backward()
    others.step()
    values = watched(model, adam(model[0].parameters()), momentum(model[2].parameters()))
    assert values[PEAK] == 8 * NUM_PARAMS + 2 * 4 * 15 + 4 * 2 + 4 * 8
    assert optimizers_of(other) == [others]


def test_half_precision_takes_half():
    model = network().bfloat16()
    optimizer = momentum(model.parameters())
    model(torch.ones(5, 4, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    with Monitor(model, every_n_steps=1, benchmark=None) as monitor:
        monitor.observe(torch.ones(5, 4))
        assert monitor.log(1)[PEAK] == 6 * NUM_PARAMS


def test_without_an_optimizer_it_is_absent_and_said_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = watched(network(), metrics=["MER", "MER (training)"])
    assert values.keys().isdisjoint({PEAK, TRAINING})
    assert MER in values
    said = [str(each.message) for each in caught if "MER (training)" in str(each.message)]
    assert len(said) == 1
    assert "optimizer" in said[0]


class Adam(DigitsClassifier):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_of_lightning_logs_both_scopes(accumulate):
    callback = IntensiveMetricsCallback(every_n_steps=3, random_baseline=0.1, benchmark=None)
    trainer = fit(callback, model=Adam(), max_epochs=1, accumulate_grad_batches=accumulate)
    parameters = list(trainer.lightning_module.parameters())
    num_params = sum(each.numel() for each in parameters)
    states = trainer.optimizers[0].state.values()
    held = sum(8 * each["exp_avg"].numel() + 4 for each in states)
    expected = 8 * num_params + held
    newest = callback.history.newest()
    assert newest[PEAK] == expected
    accuracy = callback.monitor.facts.accuracy
    assert newest[TRAINING] == pytest.approx(100 * accuracy / (expected / 1e9))
    row = next(iter(callback.monitor.finish().groups.values()))[0]
    assert row.measured[TRAINING] == newest[TRAINING]
    assert row.measured_errors[TRAINING] == pytest.approx(row.measured_errors[MER] * newest[TRAINING] / newest[MER])


def test_a_batch_before_the_first_step_has_no_figure():
    class Slow(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 0:
                seen.append(callback.monitor.facts.training_bytes)

    seen = []
    callback = IntensiveMetricsCallback(every_n_steps=3, random_baseline=0.1, benchmark=None)
    fit(callback, Slow(), model=Adam(), max_epochs=1, accumulate_grad_batches=5)
    assert seen == [None] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_allocators_peak():
    model = network().cuda()
    optimizer = adam(model.parameters())
    with Monitor(model, every_n_steps=1, benchmark=None) as monitor:
        batch = torch.ones(5, 4, device="cuda")
        monitor.observe(batch)
        model(batch).sum().backward()
        optimizer.step()
        values = monitor.log(1, accuracy=0.5)
    assert values[PEAK] == torch.cuda.max_memory_allocated()
    assert values[TRAINING] == pytest.approx(50 / (values[PEAK] / 1e9))
