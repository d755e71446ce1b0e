"""A Lightning Trainer on two processes: the values of one process, told once."""

import json

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler

from callback.runs import LogCalls, untimed
from digits import DigitsClassifier, digits
from intensive_callbacks import IntensiveMetricsCallback

METRICS = ["P3", "P2F", "MER", "R3", "CES", "SAA", "ID", "routing/specialization", "routing/max_violation"]


class Frozen(DigitsClassifier):
    """In float64 and with a learning rate of 0: what is measured depends on the data alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        self.double()

    def training_step(self, batch, index):
        return super().training_step([batch[0].double(), batch[1]], index)

    def validation_step(self, batch, index):
        # Each process logs its own accuracy: the callback weights them by the examples behind them.
        super().validation_step([batch[0].double(), batch[1]], index)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Writing(LogCalls):
    """Keeps what it is given in a file, which outlives the process."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def finalize(self, status):
        with self.path.open("a") as file:
            file.write(json.dumps(untimed(self.rows(("intensive/", "routing/")))) + "\n")


def rows(tmp_path, num_processes):
    path = tmp_path / f"{num_processes}.jsonl"
    batch = 32 // num_processes
    # A window is the whole epoch, whose examples are the same however they are dealt out.
    callback = IntensiveMetricsCallback(
        every_n_steps=10, random_baseline=0.1, observe="every_step", metrics=METRICS, benchmark=None
    )
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=num_processes,
        strategy="ddp_spawn" if num_processes > 1 else "auto",
        callbacks=[callback],
        logger=Writing(path),
        num_sanity_val_steps=0,
        **quiet,
    )
    trainer.fit(Frozen(), DataLoader(digits(0, 320), batch), DataLoader(digits(320, 416), batch))
    lines = path.read_text().splitlines()
    assert len(lines) == num_processes  # one logger a process; all but the first are given nothing
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log:UserWarning")  # not for what the test shows
def test_two_processes_log_what_one_does(tmp_path):
    (alone,), both = rows(tmp_path, 1), rows(tmp_path, 2)
    (told,) = [calls for calls in both if calls]
    assert [step for step, _ in told] == [step for step, _ in alone]
    for (_, values), (_, expected) in zip(told, alone, strict=True):
        assert values == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_critical_batch_size_of_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    path = tmp_path / "calls.jsonl"
    callback = IntensiveMetricsCallback(None, every_n_steps=10, metrics=["B_crit"], benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    model = Frozen()
    model.validation_step = None
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        callbacks=[callback],
        logger=Writing(path),
        **quiet,
    )
    data = digits(0, 320)
    trainer.fit(model, DataLoader(data, 16))
    (told,) = [calls for calls in map(json.loads, path.read_text().splitlines()) if calls]
    dealt = [list(DistributedSampler(data, num_replicas=2, rank=rank, seed=5)) for rank in (0, 1)]
    noise = signal = 0.0
    for first in range(0, 160, 16):
        gradients = [gradient_of(model, *data[mine[first : first + 16]]) for mine in dealt]
        large = torch.stack(gradients).mean(0).square().sum().item()
        noises = [(own.square().sum().item() - large) / (1 / 16 - 1 / 32) for own in gradients]
        signals = [(32 * large - 16 * own.square().sum().item()) / 16 for own in gradients]
        noise, signal = 0.99 * noise + sum(noises), 0.99 * signal + sum(signals)
    assert told[-1][1]["intensive/critical_batch_size"] == pytest.approx(noise / signal, rel=1e-5)


def gradient_of(model, images, labels):
    loss = torch.nn.functional.cross_entropy(model(images.double()), labels)
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))])


class Communicating(torch.nn.Module):
    """A forward that both processes must run equally often; its cost grows with the square of the length."""

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Linear(8, 8)

    def forward(self, x):
        x = self.project(x)
        return mean_over_processes((x @ x.mT).square().mean())


@torch.compiler.disable
def mean_over_processes(x):
    return torch.distributed.nn.all_reduce(x) / 2


class Varied(pl.LightningModule):
    """Compiled, on batches whose shapes are new to one process and known to the other."""

    LENGTHS = ((4, 6, 4), (5, 5, 5))

    def __init__(self):
        super().__init__()
        self.body = Communicating()

    def configure_model(self):
        self.body.compile(backend="eager")  # in the process that trains: what is compiled is not pickled

    def training_step(self, batch, _):
        return self.body(batch)

    def train_dataloader(self):
        lengths = self.LENGTHS[self.trainer.global_rank]
        return DataLoader([torch.randn(2, length, 8) for length in lengths], batch_size=None)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def half(trainer, module):
    return 0.5


@pytest.mark.slow
def test_what_runs_aside_may_communicate(tmp_path):
    path = tmp_path / "rows.jsonl"
    callback = IntensiveMetricsCallback(half, every_n_steps=1, metrics=["P2F"], benchmark=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    several = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_spawn", "use_distributed_sampler": False}
    trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=Writing(path), **several, **quiet)
    trainer.fit(Varied())
    (told,) = [calls for calls in map(json.loads, path.read_text().splitlines()) if calls]
    scores = [values["intensive/p2f_score"] for _, values in told]

    def flops(*lengths):  # of an example, the mean over these batches
        return sum(2 * length * 8 * 8 + 2 * length * length * 8 for length in lengths) / len(lengths)

    expected = [flops(4, 5), flops(4, 5, 5), flops(4, 5, 5, 4, 5)]  # six positions were never counted
    assert [scores[0] / score for score in scores] == pytest.approx([each / expected[0] for each in expected])
