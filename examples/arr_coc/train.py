"""Train the small ARR-COC with four rules of allocation at equal tokens, and print what each delivers."""

import argparse

import pytorch_lightning as pl
import torch
from model import ArrCoc
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from data import mosaics
from intensive_callbacks import (
    ConfigurationEntropyScore,
    IntensiveMetricsCallback,
    QueryContentCoupling,
    SalienceDivergence,
    Tap,
)

RULES = ("direct", "inverse", "fixed", "random")
KEYS = {
    "QC3": "intensive/query_coupling",
    "KL": "intensive/salience_divergence",
    "CES": "intensive/config_entropy",
    "R3": "intensive/relevance_rate",
    "ECR": "intensive/compression_ratio",
    "P3": "intensive/p3_score",
    "P2F": "intensive/p2f_score",
    "MER": "intensive/memory_efficiency",
}


class Task(pl.LightningModule):
    def __init__(self, rule: str) -> None:
        super().__init__()
        self.model = ArrCoc(rule)
        self.relevant: Tensor | None = None

    def forward(self, patches: Tensor, query: Tensor) -> Tensor:
        return self.model(patches, query)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        patches, query, _, digit = batch
        return F.nll_loss(self(patches, query), digit)

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        patches, query, self.relevant, digit = batch
        self.log("val/accuracy", (self(patches, query).argmax(-1) == digit).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)

    def attention_map(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """A map as people's would be, 0.7 on the queried patch and the rest spread, beside the model's."""
        if self.relevant is None or len(self.relevant) != len(relevance):
            return relevance[:0], relevance[:0]
        return 0.1 + 0.6 * F.one_hot(self.relevant, relevance.shape[1]), relevance


def run(rule: str, epochs: int, num_train: int, num_val: int) -> dict[str, float]:
    pl.seed_everything(0, verbose=False)
    task = Task(rule)
    taps = [
        Tap("model.allocate", lambda _, output: (output[0], output[1]), QueryContentCoupling()),
        Tap("model.allocate", lambda _, output: output[2], ConfigurationEntropyScore(num_experts=3)),
        Tap("model.allocate", lambda _, output: task.attention_map(output[0]), SalienceDivergence()),
        Tap("model", lambda inputs, output: (inputs[0].flatten(1), output), "ECR"),
    ]
    callback = IntensiveMetricsCallback(
        "val/accuracy", every_n_steps=10, random_baseline=0.1, taps=taps, benchmark=None
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, val = mosaics(num_train, slice(0, 1400), seed=0), mosaics(num_val, slice(1400, None), seed=1)
    trainer.fit(task, DataLoader(train, 32, shuffle=True), DataLoader(val, 64))
    accuracy = float(trainer.callback_metrics["val/accuracy"])
    last = {key: value for row in callback.history.rows() for key, value in row.items()}
    return {"accuracy": accuracy} | {name: float(last.get(key, float("nan"))) for name, key in KEYS.items()}


def main() -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--num-train", type=int, default=1600)
    parser.add_argument("--num-val", type=int, default=384)
    given = parser.parse_args()
    rows = {rule: run(rule, given.epochs, given.num_train, given.num_val) for rule in RULES}
    print(f"{'576 tokens, spent':<18}" + "".join(f"{name:>11}" for name in rows["direct"]))
    for rule, row in rows.items():
        print(f"{rule:<18}" + "".join(f"{value:>11.4g}" for value in row.values()))
    return rows


if __name__ == "__main__":
    main()
