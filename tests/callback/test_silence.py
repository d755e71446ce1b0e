"""What a run cannot give is one line, once."""

import warnings

import pytest
import torch
from torch.nn import functional as F

from callback.runs import fit
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback


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


def test_an_accuracy_callable_is_asked_at_the_end():
    steps = []

    def accuracy(trainer, module):
        steps.append(trainer.global_step)
        return 0.5

    callback = IntensiveMetricsCallback(accuracy, every_n_steps=8, random_baseline=0.1, benchmark=None)
    fit(callback, max_epochs=1, limit_val_batches=0)
    assert steps == [8, 10]
    assert [row["step"] for row in callback.history.rows() if "intensive/p3_score" in row] == [8, 10]
