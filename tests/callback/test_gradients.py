"""The critical batch size of a training: its gradients' norms by another way, and what cannot be measured."""

import re

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from callback.runs import LogCalls, Recorder, fit
from digits import DigitsClassifier, digits
from intensive_callbacks import CriticalBatchSize, IntensiveMetricsCallback

KEY = "intensive/critical_batch_size"


class Frozen(DigitsClassifier):
    """Always the same weights, in float64, and one answer for every image, so that the gradients point one way."""

    def __init__(self):
        super().__init__()
        self.double()

    def training_step(self, batch, index):
        return super().training_step([batch[0].double(), batch[1] * 0], index)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def batches():
    return torch.utils.data.DataLoader(digits(0, 84), 8)


def watching(metric="B_crit", **settings):
    return IntensiveMetricsCallback(None, metrics=[metric], benchmark=None, **{"every_n_steps": 2, **settings})


def train(callback, model, **settings):
    logger = LogCalls()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    model.validation_step = None
    trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=logger, accelerator="cpu", **quiet, **settings)
    trainer.fit(model, batches())
    return [(step, values[KEY]) for step, values in logger.calls if KEY in values]


def by_hand(model, parts, decay):
    """Of consecutive pairs of batches of 8: the first one's gradient, and that of both."""
    noise, signal, scales = 0.0, 0.0, []
    for first, second in zip(parts[::2], parts[1::2], strict=True):
        norms = []
        for images, labels in (first, tuple(map(torch.cat, zip(first, second, strict=True)))):
            gradients = torch.autograd.grad(
                F.cross_entropy(model(images.double()), labels * 0), list(model.parameters())
            )
            norms.append(sum(gradient.square().sum() for gradient in gradients).item())
        noise = decay * noise + (norms[0] - norms[1]) / (1 / 8 - 1 / 16)
        signal = decay * signal + (16 * norms[1] - 8 * norms[0]) / 8
        scales.append(noise / signal)
    return scales


@pytest.mark.parametrize(("metric", "decay"), [("B_crit", 0.99), (CriticalBatchSize(8, 16, decay=0.5), 0.5)])
def test_accumulated_batches_give_the_noise_scale(metric, decay):
    torch.manual_seed(0)
    model = Frozen()
    values = train(watching(metric), model, accumulate_grad_batches=2, gradient_clip_val=1e-6)
    # 84 examples: ten batches of 8, then one of 4 alone, whose step is left out.
    expected = by_hand(model, list(batches())[:10], decay)
    assert [step for step, _ in values] == [1, 3, 5]
    assert [value for _, value in values] == pytest.approx([expected[1], expected[3], expected[4]], nan_ok=True)
    assert values[-1][1] > 0


def test_training_is_bit_identical():
    states = []
    for callbacks in ([watching()], []):
        recorder = Recorder()
        trainer = fit(*callbacks, recorder, accumulate_grad_batches=2)
        states.append([*recorder.losses, *trainer.lightning_module.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


class Manual(Frozen):
    automatic_optimization = False


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (Frozen, {}, "train on several processes with DDP, or with accumulate_grad_batches of at least 2"),
        (Manual, {}, "needs automatic optimization"),
    ],
)
def test_two_batch_sizes_are_required(model, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        train(watching(), model(), **settings)
