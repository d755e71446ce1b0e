"""A mask of the user's own: neither the routers' padding nor the tokens of a batch are counted without it."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from intensive_callbacks import IntensiveMetricsCallback
from routing.designs import D, K, LinearGate

REAL = torch.tensor([[True] * 5 + [False] * 3, [True] * 2 + [False] * 6])


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embedding, self.moe = nn.Embedding(9, D), LinearGate()

    def training_step(self, batch, _):
        return self.moe(self.embedding(batch["input_ids"])).square().mean()

    def validation_step(self, batch, _):
        self.moe(self.embedding(batch["input_ids"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_mask_under_a_name_of_its_own(tmp_path):
    loads = []

    class Callback(IntensiveMetricsCallback):
        def on_train_batch_end(self, *args):
            loads.append(self.monitor.observer.read().by_layer()["moe"])
            super().on_train_batch_end(*args)

        def on_validation_batch_end(self, *_):
            loads.append(self.monitor.observer.read().by_layer()["moe"])

    callback = Callback(None, every_n_steps=2, mask=lambda batch: batch["real"], benchmark=None)
    data = [{"input_ids": torch.randint(0, 9, (8,)), "real": REAL[i % 2]} for i in range(8)]
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(Module(), DataLoader(data, 2), DataLoader(data[:2], 2))
    assert [int(each["num_tokens"]) for each in loads] == [7, 14, 7, 14, 7]
    assert [int(each["load"].sum()) for each in loads] == [7 * K, 14 * K, 7 * K, 14 * K, 7 * K]
    assert callback.monitor.facts.seen_tokens == 4 * 7
    assert trainer.callback_metrics["routing/coverage"] == 1
