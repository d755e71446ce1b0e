"""On a GPU: training is bit for bit the same, and between two logging steps nothing waits for the device."""

import pytest
import torch

from callback.runs import Recorder, fit
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
]


def watching(**settings):
    return IntensiveMetricsCallback(**{"every_n_steps": 4, "random_baseline": 0.1, "benchmark": None, **settings})


def test_training_is_bit_identical(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    states = []
    for callbacks in ([watching()], []):
        recorder = Recorder()
        trainer = fit(*callbacks, recorder, accelerator="gpu")
        states.append([*recorder.losses, *trainer.lightning_module.state_dict().values()])
    torch.use_deterministic_algorithms(mode=False)
    assert all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(*states, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:TensorFloat32:UserWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # dynamo asks
def test_training_with_a_compiled_part_is_bit_identical(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    states = []
    for callbacks in ([watching()], []):
        torch._dynamo.reset()
        torch.manual_seed(0)
        recorder, model = Recorder(), DigitsClassifier()
        model.head = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(32), model.head)
        model.head = torch.compile(model.head)
        trainer = fit(*callbacks, recorder, model=model, accelerator="gpu")
        states.append([*recorder.losses, *trainer.lightning_module.state_dict().values(), torch.cuda.get_rng_state()])
        if callbacks:
            assert callbacks[0].monitor.facts.num_flops > 0
    torch.use_deterministic_algorithms(mode=False)
    assert all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(*states, strict=True))


def test_values_are_those_of_the_cpu():
    values = []
    drawn = ("cost/", "intensive/accuracy_per_joule")
    for accelerator in ("gpu", "cpu"):
        callback = watching(accuracy=None, every_n_steps=1)
        fit(callback, accelerator=accelerator, max_steps=1, deterministic=False)
        values.append({key: value for key, value in callback.history.newest().items() if not key.startswith(drawn)})
    assert values[0] == pytest.approx(values[1], rel=1e-4)


class Raising(IntensiveMetricsCallback):
    """Raises where its own events wait for the device on a step that logs nothing."""

    def guarded(self, event, trainer, *args):
        quiet = trainer.global_step % 4 and trainer.global_step > 1
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")
        try:
            event(trainer, *args)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        self.num_quiet = getattr(self, "num_quiet", 0) + bool(quiet)

    def on_train_batch_start(self, *args):
        self.guarded(super().on_train_batch_start, *args)

    def on_train_batch_end(self, *args):
        self.guarded(super().on_train_batch_end, *args)


def test_nothing_waits_for_the_device_between_two_logging_steps():
    callback = Raising(accuracy=None, every_n_steps=4, benchmark=None, strict=True)
    fit(callback, accelerator="gpu", limit_val_batches=0, deterministic=False)
    assert callback.num_quiet > 10
