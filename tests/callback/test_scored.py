"""The standard error of an accuracy is that of the answers it is a share of, or there is none."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from callback.runs import fit
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback

SEQUENCES, LENGTH = 24, 32


class Words(pl.LightningModule):
    """A model of words that is right at random, and logs its accuracy in some way."""

    def __init__(self, log):
        super().__init__()
        self.net, self.log_accuracy = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50)), log
        self.right = []
        self.metric = MulticlassAccuracy(2, average="micro")

    def training_step(self, batch, _):
        return self.net(batch["input_ids"]).square().mean()

    def validation_step(self, batch, _):
        right = torch.rand(batch["input_ids"].shape) < 0.6
        self.right.append(right)
        self.log_accuracy(self, right)

    def on_validation_epoch_end(self):
        if self.log_accuracy is at_the_end:
            self.log("val/accuracy", torch.cat(self.right).float().mean())
        self.right = []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def of_tokens(module, right):
    module.log("val/accuracy", right.float().mean(), batch_size=right.numel())


def of_tokens_by_sequences(module, right):
    module.log("val/accuracy", right.float().mean(), batch_size=len(right))


def of_sequences(module, right):
    module.log("val/accuracy", right[:, 0].float().mean(), batch_size=len(right))


def by_a_metric(module, right):
    module.metric(right.flatten().int(), torch.ones(right.numel(), dtype=torch.int64))
    module.log("val/accuracy", module.metric)


def of_no_share(module, right):
    module.log("val/accuracy", right.float().mean().sqrt(), batch_size=len(right))


def at_the_end(module, right):
    """Logged when the epoch ends."""


def answers_of(log):
    torch.manual_seed(0)
    callback = IntensiveMetricsCallback(every_n_steps=2, random_baseline=0.02, benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu", **quiet)
    loader = DataLoader([{"input_ids": torch.randint(50, (LENGTH,))} for _ in range(SEQUENCES)], 8)
    trainer.fit(Words(log), loader, loader)
    facts = callback.monitor.facts
    assert facts.accuracy == pytest.approx(float(trainer.callback_metrics["val/accuracy"]))
    return facts.num_examples, callback


@pytest.mark.parametrize(
    ("log", "answers"),
    [
        (of_tokens, SEQUENCES * LENGTH),
        (of_tokens_by_sequences, SEQUENCES * LENGTH),
        (by_a_metric, SEQUENCES * LENGTH),
        (at_the_end, SEQUENCES * LENGTH),
        (of_sequences, SEQUENCES),
        (of_no_share, None),
    ],
)
def test_answers_are_what_makes_the_accuracy_a_share(log, answers):
    assert answers_of(log)[0] == answers


def test_the_printed_error_is_that_of_the_answers():
    _, callback = answers_of(of_tokens_by_sequences)
    a = callback.monitor.facts.accuracy
    p3 = next(iter(callback.monitor.finish().groups.values()))[0].measured_errors["intensive/p3_score"]
    per_point = callback.history.newest()["intensive/p3_score"] / a
    assert p3 / per_point == pytest.approx(math.sqrt(a * (1 - a) / (SEQUENCES * LENGTH)), rel=1e-5)


class Macro(DigitsClassifier):
    def __init__(self):
        super().__init__()
        self.metric = MulticlassAccuracy(10, average="macro")

    def validation_step(self, batch, _):
        self.metric(self(batch[0]), batch[1])
        self.log("val/accuracy", self.metric)


def test_a_mean_over_classes_has_no_error():
    callback = IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, benchmark=None)
    fit(callback, model=Macro(), max_epochs=1)
    assert callback.monitor.facts.num_examples is None


@pytest.mark.parametrize("index", [0, 1])
def test_answers_of_one_of_several_loaders(index):
    class Two(Words):
        def validation_step(self, batch, _, dataloader_idx=0):
            self.log("val/accuracy", (torch.rand(len(batch["input_ids"])) < 0.6).float().mean())

    torch.manual_seed(0)
    callback = IntensiveMetricsCallback(f"val/accuracy/dataloader_idx_{index}", every_n_steps=2, benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu", **quiet)
    rows = [{"input_ids": torch.randint(50, (LENGTH,))} for _ in range(SEQUENCES)]
    trainer.fit(Two(of_tokens), DataLoader(rows, 8), [DataLoader(rows, 8), DataLoader(rows[:10], 8)])
    assert callback.monitor.facts.num_examples == [SEQUENCES, 10][index]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize(
    ("nested", "mode", "examples"),
    [
        (False, "min_size", 5 * (32 + 16)),
        (True, "min_size", 5 * (32 + 16)),
        (False, "max_size", 320 + 80),
        (False, "max_size_cycle", 10 * (32 + 16)),
    ],
)
def test_a_step_of_several_training_loaders(nested, mode, examples):
    class Combined(DigitsClassifier):
        def training_step(self, batch, index):
            parts = batch["outer"] if nested else [batch["a"], batch["b"]]
            return sum(super(Combined, self).training_step(part, index) for part in parts if part is not None)

    images = torch.utils.data.TensorDataset(torch.rand(320, 64), torch.randint(10, (320,)))
    few = torch.utils.data.Subset(images, range(80))
    loaders = [DataLoader(images, 32), DataLoader(few, 16)]
    structure = {"outer": loaders} if nested else {"a": loaders[0], "b": loaders[1]}
    callback = IntensiveMetricsCallback(None, every_n_steps=5, benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu", **quiet)
    trainer.fit(Combined(), CombinedLoader(structure, mode))
    assert callback.monitor.facts.seen_examples == examples
