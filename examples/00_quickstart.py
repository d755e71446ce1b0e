"""Train a small mixture of experts on scikit-learn's digits and see what its configuration delivers for its cost."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

from intensive_callbacks import IntensiveMetricsCallback
from intensive_callbacks.dashboards import render
from intensive_callbacks.sinks.charts import can_draw
from intensive_callbacks.sinks.wandb import sync_command


class MixtureOfExperts(nn.Module):
    """Each token goes to its two best experts."""

    def __init__(self, width: int, num_experts: int = 8, top_k: int = 2) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(width, num_experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)) for _ in range(num_experts)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        weights, chosen = self.gate(tokens).softmax(-1).topk(self.top_k)
        output = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == index)
            output = output.index_add(0, token, weights[token, slot, None] * expert(tokens[token]))
        return output


class DigitsClassifier(pl.LightningModule):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.blocks = nn.ModuleList(MixtureOfExperts(width) for _ in range(2))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.embed(images)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        images, labels = batch
        self.log("val/accuracy", (self(images).argmax(-1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def load_data() -> list[Subset[tuple[Tensor, ...]]]:
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data / 16).float(), torch.tensor(digits.target))
    return random_split(data, [1500, len(data) - 1500])


if __name__ == "__main__":
    pl.seed_everything(0)
    out = Path("demo")
    train, val = load_data()
    intensive = IntensiveMetricsCallback("val/accuracy", every_n_steps=10, random_baseline=0.1, task="digits")
    logger = WandbLogger(project="intensive-quickstart", save_dir=out, offline=True)
    trainer = pl.Trainer(max_epochs=15, callbacks=[intensive], logger=logger, log_every_n_steps=10, accelerator="cpu")
    trainer.fit(DigitsClassifier(), DataLoader(train, 64, shuffle=True), DataLoader(val, 256))
    if can_draw():  # with the extra "render"
        print("overview:", *render("overview", intensive.history.rows(), out, title="What the configuration delivers"))
    print("send the run to W&B:", sync_command(logger.experiment))
