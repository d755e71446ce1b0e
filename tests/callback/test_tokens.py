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
