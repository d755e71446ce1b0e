"""A model that has tokens: costs per token, and the Chinchilla index of the tokens seen."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from intensive_callbacks import IntensiveMetricsCallback

NUM_PARAMS = 50 * 16 + 16 * 50 + 50
LENGTH, REAL = 12, 9  # three positions of each sequence are padding


class Bigram(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 50)

    def training_step(self, batch, _):
        logits = self.head(self.embed(batch["input_ids"]))
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def sequences(count):
    mask = torch.ones(LENGTH, dtype=torch.int64)
    mask[REAL:] = 0
    return [{"input_ids": torch.randint(50, (LENGTH,)), "attention_mask": mask} for _ in range(count)]


@pytest.mark.parametrize("num_tokens", [None, lambda batch: 2 * batch["input_ids"].shape[0]])
def test_tokens_are_counted_without_padding_and_costs_with_it(num_tokens):
    callback = IntensiveMetricsCallback(None, every_n_steps=5, num_tokens=num_tokens, benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_steps=10, callbacks=[callback], logger=False, accelerator="cpu", **quiet)
    trainer.fit(Bigram(), DataLoader(sequences(80), 8))
    values = callback.history.newest()
    assert values["baseline/flops_per_token"] == 2 * 16 * 50  # the head's product at every position
    tokens = 10 * 8 * (REAL if num_tokens is None else 2)
    assert values["intensive/chinchilla_optimality"] == pytest.approx((NUM_PARAMS / tokens) * 20)
    assert values["baseline/total_params"] == NUM_PARAMS


class Attending(Bigram):
    """The cost of a token grows with the length of its sequence."""

    def training_step(self, batch, _):
        hidden = self.embed(batch["input_ids"])
        hidden = (hidden @ hidden.mT).softmax(-1) @ hidden
        return self.head(hidden).square().mean()

    def validation_step(self, batch, _):
        self.training_step(batch, _)
        self.log("val/accuracy", 0.5, batch_size=1)


def attending_flops(batch, length):
    return batch * length * (2 * 16 * 50 + 2 * 2 * 16 * length)


def batches_of(*shapes):
    return DataLoader([{"input_ids": torch.randint(50, shape)} for shape in shapes], batch_size=None)


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2, "val_check_interval": 3}], ids=str)
def test_cost_of_a_token_is_the_mean_over_all_lengths(settings):
    shapes = [(8, 12), (8, 20), (8, 12), (8, 20), (8, 12), (3, 7)]  # the last batch ran short
    callback = IntensiveMetricsCallback("val/accuracy", every_n_steps=1, benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=2, callbacks=[callback], logger=False, accelerator="cpu", **quiet, **settings)
    trainer.fit(Attending(), batches_of(*shapes), batches_of((5, 40)))  # what validation costs is not training's
    positions = sum(batch * length for batch, length in shapes)
    mean = sum(attending_flops(*shape) for shape in shapes) / positions
    assert callback.monitor.facts.num_flops == pytest.approx(mean, rel=1e-12)
    assert callback.history.rows()[0]["baseline/flops_per_token"] == attending_flops(8, 12) / 96
