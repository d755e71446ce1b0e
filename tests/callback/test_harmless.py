"""Training with the callback is, bit for bit, the training without it, and nothing of it stays behind."""

import signal

import pytest
import pytorch_lightning as pl
import torch

from callback.runs import Recorder, fit, num_hooks
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback


def trained(callbacks, **settings):
    """Losses, weights, optimizer state and random state after a training."""
    recorder = Recorder()
    trainer = fit(*callbacks, recorder, **settings)
    optimizer = trainer.optimizers[0].state_dict()["state"]
    state = [value for entry in optimizer.values() for value in entry.values()]
    return [
        *recorder.losses,
        *trainer.lightning_module.state_dict().values(),
        *state,
        torch.random.get_rng_state(),
    ]


def watching(**settings):
    return IntensiveMetricsCallback(every_n_steps=3, random_baseline=0.1, benchmark=None, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"precision": "bf16-mixed"},
        {"val_check_interval": 4, "max_steps": 17},
        {"limit_val_batches": 0},
    ],
    ids=str,
)
def test_training_is_bit_identical(settings):
    watched, alone = trained([watching()], **settings), trained([], **settings)
    assert len(watched) == len(alone)
    assert all(torch.equal(one, other) for one, other in zip(watched, alone, strict=True))


def test_training_is_bit_identical_with_everything_observed():
    measuring = IntensiveMetricsCallback(
        every_n_steps=1, random_baseline="measure", observe="every_step", per_layer=True
    )
    assert all(torch.equal(*pair) for pair in zip(trained([measuring]), trained([]), strict=True))


def test_a_careless_accuracy_callable_does_not_disturb():
    def careless(trainer, pl_module):
        pl_module.eval()
        with torch.no_grad():
            pl_module(torch.rand(16, 64))
        return float(torch.rand(()))

    callback = IntensiveMetricsCallback(careless, every_n_steps=2, random_baseline=0.1)
    assert all(torch.equal(*pair) for pair in zip(trained([callback]), trained([]), strict=True))
    assert callback.history.newest()["intensive/p3_score"] > 0


def test_no_hook_is_left_after_success():
    model = DigitsClassifier()
    before = num_hooks(model)
    fit(watching(), model=model)
    assert num_hooks(model) == before == (0, 0, 0, 0)


class Interrupted(DigitsClassifier):
    """Stops in the middle of a forward pass inside a block."""

    def __init__(self, error, when):
        super().__init__()
        self.error, self.when, self.num_forwards = error, when, 0
        self.blocks[1].experts[0].register_forward_pre_hook(self.stop)

    def stop(self, *_):
        self.num_forwards += self.training
        if self.num_forwards == self.when:
            raise self.error


@pytest.mark.parametrize("when", [1, 5])
def test_no_hook_is_left_after_an_exception(when):
    model = Interrupted(ValueError("on purpose"), when)
    before = num_hooks(model)
    with pytest.raises(ValueError, match="on purpose"):
        fit(watching(), model=model)
    assert num_hooks(model) == before


@pytest.mark.parametrize("when", [1, 5])
def test_no_hook_is_left_after_ctrl_c(when):
    model, handler = Interrupted(KeyboardInterrupt(), when), signal.getsignal(signal.SIGINT)
    before = num_hooks(model)
    try:
        with pytest.raises(SystemExit):
            fit(watching(), model=model)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert num_hooks(model) == before


def test_the_model_and_its_checkpoint_know_nothing_of_it(tmp_path):
    plain = DigitsClassifier()
    model = DigitsClassifier()
    checkpointing = pl.callbacks.ModelCheckpoint(tmp_path, filename="end")
    fit(watching(), checkpointing, model=model, enable_checkpointing=True)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert list(torch.load(tmp_path / "end.ckpt")["state_dict"]) == list(plain.state_dict())
