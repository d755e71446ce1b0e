"""The callback's own time in a training, beside that of Lightning's monitors in the same run.

Run from the repository's root: ``python tests/benchmarks/own_time.py``. Every event method of each callback is timed,
and so is every forward hook that the library registers. Not timed are the training, what loggers do, and what an
operator costs more inside a function mode (``observer.py`` beside this file compares whole steps). Two mixtures of
experts: one of 4 layers of 8 experts with steps of about 20 ms, and one of 61 layers of 256 experts, whose widths are
tiny so that it runs in seconds. Printed are microseconds: of an ordinary step and of a logging step, each the median
over the steps of its kind after the first logging step, and per step where one in 50 is a logging step.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from collections import defaultdict

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from intensive_callbacks import IntensiveMetricsCallback

EVERY_N_STEPS = 50
NUM_VALUES = 5
REGISTER = ("register_forward_hook", "register_forward_pre_hook")


class Listed(nn.Module):
    """A gate and a list of experts, each of which is called with its tokens."""

    def __init__(self, num_experts: int, width: int) -> None:
        super().__init__()
        self.top_k, self.gate = 2, nn.Linear(width, num_experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(num_experts)
        )

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(self.top_k)
        out = x
        for index, expert in enumerate(self.experts):
            tokens, slots = torch.where(ids == index)
            out = out.index_add(0, tokens, weights[tokens, slots, None] * expert(x[tokens]))
        return out


class Experts(nn.Module):
    """The matrices of all experts in one tensor."""

    def __init__(self, num_experts: int, width: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(num_experts, width, width) / width**0.5)

    def forward(self, x, ids, weights):
        return (torch.einsum("td,tkdh->tkh", x, self.up[ids]) * weights[..., None]).sum(1)


class Stacked(nn.Module):
    """A gate and experts that are called with everybody's ids, as those of transformers are."""

    def __init__(self, num_experts: int, width: int) -> None:
        super().__init__()
        self.top_k, self.gate = 8, nn.Linear(width, num_experts, bias=False)
        self.experts = Experts(num_experts, width)

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(self.top_k)
        return x + self.experts(x, ids, weights)


class Mixture(pl.LightningModule):
    """A classifier that logs its accuracy in training."""

    def __init__(self, block: type, num_layers: int, num_experts: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(block(num_experts, width) for _ in range(num_layers)))
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.blocks(x))

    def training_step(self, batch, _):
        logits = self(batch)
        target = batch[:, :4].argmax(-1)
        self.log("train/accuracy", (logits.argmax(-1) == target).float().mean())
        return nn.functional.cross_entropy(logits, target)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


class Nowhere(Logger):
    """A logger that drops everything."""

    name, version = "nowhere", 0

    def log_metrics(self, metrics, step=None):
        """Drop it."""

    def log_hyperparams(self, *_, **__):
        """Drop them."""


class Stopwatch(Callback):
    """The first callback of all: it says when a step begins. Seconds by name and step."""

    def __init__(self) -> None:
        self.step = 0
        self.seconds: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._running: str | None = None

    def on_train_batch_start(self, *_):
        self.step += 1

    def timed(self, name, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            if self._running is not None:  # inside something that is timed already
                return function(*args, **kwargs)
            self._running, start = name, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name][self.step] += time.perf_counter() - start
                self._running = None

        return call

    def watch(self, callback: Callback) -> Callback:
        """Time every event of a callback."""
        for name in dir(Callback):
            if name.startswith("on_") or name in ("setup", "teardown"):
                setattr(callback, name, self.timed(type(callback).__name__, getattr(callback, name)))
        return callback

    @contextlib.contextmanager
    def hooks(self):
        """Time every hook that the library registers on a module."""
        originals = {name: getattr(nn.Module, name) for name in REGISTER}

        def replace(name):
            def register(module, hook, **options):
                of_ours = sys._getframe(1).f_globals["__name__"].startswith("intensive_callbacks")
                return originals[name](module, self.timed("hooks", hook) if of_ours else hook, **options)

            setattr(nn.Module, name, register)

        for name in originals:
            replace(name)
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(nn.Module, name, original)


# the block; layers, experts, width; tokens a step, steps between two values
SIZES = {"4 x 8": (Listed, 4, 8, 128, 192, EVERY_N_STEPS), "61 x 256": (Stacked, 61, 256, 8, 32, 10)}


def measure(size: str) -> dict[str, tuple[float, float, float]]:
    """Microseconds by name: a step at a value every 50 steps, an ordinary step, a logging step; the step itself."""
    block, num_layers, num_experts, width, num_tokens, every = SIZES[size]
    torch.manual_seed(0)
    model = Mixture(block, num_layers, num_experts, width)
    watch = Stopwatch()
    watched = [
        IntensiveMetricsCallback("train/accuracy", every_n_steps=every, random_baseline=0.25, benchmark=None),
        DeviceStatsMonitor(cpu_stats=True),
        ThroughputMonitor(batch_size_fn=len),
        LearningRateMonitor("step"),
    ]
    batches = torch.randn((NUM_VALUES + 1) * every, num_tokens, width)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=Nowhere(),
        log_every_n_steps=every,
        callbacks=[watch, *map(watch.watch, watched)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    start = time.perf_counter()
    with watch.hooks(), contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(model, torch.utils.data.DataLoader(batches, batch_size=None))
    elapsed = time.perf_counter() - start
    steps = range(every + 1, len(batches) + 1)
    results = {"(the training, measured)": (1e6 * elapsed / len(batches),) * 3}
    seconds = dict(watch.seconds)
    ours = type(watched[0]).__name__
    seconds["ours: events"] = seconds.pop(ours)
    seconds["ours: hooks"] = seconds.pop("hooks")
    seconds[ours] = defaultdict(float, {s: seconds["ours: events"][s] + seconds["ours: hooks"][s] for s in steps})
    for name, by_step in seconds.items():
        logging_step = statistics.median(by_step[step] for step in steps if step % every == 0)
        ordinary = statistics.median(by_step[step] for step in steps if step % every)
        a_step = (ordinary * (EVERY_N_STEPS - 1) + logging_step) / EVERY_N_STEPS
        results[name] = (1e6 * a_step, 1e6 * ordinary, 1e6 * logging_step)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    torch.set_num_threads(1)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, Lightning {pl.__version__}, 1 thread"
    )
    for size in parser.parse_args().sizes:
        print(f"\n{size} experts, microseconds{'':12} per step   ordinary   logging step")
        for name, (a_step, ordinary, logging_step) in measure(size).items():
            print(f"{name:38} {a_step:10.0f} {ordinary:10.0f} {logging_step:14.0f}")


if __name__ == "__main__":
    main()
