"""Short trainings of the quickstart's model, and what they leave."""

from __future__ import annotations

import tempfile

import pytorch_lightning as pl
import torch
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from digits import DigitsClassifier, loaders


class Recorder(pl.Callback):
    """The loss of every batch."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].detach().clone())


class LogCalls(pl.loggers.logger.Logger):
    """A logger that keeps what it is given."""

    name = version = "calls"

    def __init__(self):
        super().__init__()
        self.calls = []

    def log_metrics(self, metrics, step=None):
        self.calls.append((step, dict(metrics)))

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def rows(self, prefix=("baseline/", "intensive/", "routing/")):
        """The calls with keys of ours: (step, keys)."""
        return [(step, values) for step, values in self.calls if any(key.startswith(prefix) for key in values)]


def fit(*callbacks, model=None, batch_size=32, num_train=320, num_val=96, seed=7, ckpt_path=None, **settings):
    """A fit on the CPU with nothing to look at; returns the trainer."""
    pl.seed_everything(seed, verbose=False)
    model = DigitsClassifier() if model is None else model
    root = tempfile.mkdtemp()
    defaults = {
        "default_root_dir": root,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "deterministic": True,
    }
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    trainer = pl.Trainer(callbacks=list(callbacks), **{**quiet, **defaults, **settings})
    try:
        trainer.fit(model, *loaders(batch_size, num_train, num_val), ckpt_path=ckpt_path)
    finally:
        torch.use_deterministic_algorithms(mode=False)  # the Trainer leaves it on
    return trainer


def untimed(rows):
    """Rows of a logger without what no two runs have in common: their speed."""
    return [(step, {key: value for key, value in row.items() if not key.startswith("cost/")}) for step, row in rows]


def num_hooks(model):
    """Hooks on the modules of a model and on all modules, and modes that are on."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    own = sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
    everywhere = len(modules._global_forward_hooks) + len(modules._global_forward_pre_hooks)
    return own, everywhere, _len_torch_dispatch_stack(), torch._C._len_torch_function_stack()
