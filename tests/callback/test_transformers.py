"""In a transformers Trainer: the values of the Lightning callback, the same training, resume, trackers."""

import json
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import SequentialSampler

from intensive_callbacks import IntensiveMetricsCallback, IntensiveTrainerCallback
from offline_runs import history, inspected, tables

transformers = pytest.importorskip("transformers")
NUM_EXPERTS, TOP_K = 4, 2
COSTS = "cost/"


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(6, NUM_EXPERTS), nn.ModuleList(nn.Linear(6, 6) for _ in range(NUM_EXPERTS))

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(TOP_K)
        return sum((weights * (ids == i)).sum(-1, keepdim=True) * each(x) for i, each in enumerate(self.experts))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.head = nn.ModuleList([Mixture(), Mixture()]), nn.Linear(6, 3)

    def forward(self, x, labels=None):
        for block in self.blocks:
            x = x + block(x)
        logits = self.head(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def examples(num_examples, seed):
    x = torch.randn(num_examples, 6, generator=torch.Generator().manual_seed(seed))
    return [{"x": row, "labels": row[:3].argmax()} for row in x]


TRAIN, VALID = examples(48, 0), examples(16, 1)


class InOrder(transformers.Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


def accuracy_of(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def train(folder, callbacks, *, resume=None, learning_rate=0.1, **settings):
    """A training in steps of 8 examples, of SGD without clipping, evaluated every four steps."""
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    arguments = transformers.TrainingArguments(
        **{
            "output_dir": folder,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "num_train_epochs": 2,
            "eval_strategy": "steps",
            "eval_steps": 4,
            "save_strategy": "no",
            "max_grad_norm": 0,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            **settings,
        }
    )
    trainer = InOrder(
        model,
        arguments,
        train_dataset=TRAIN,
        eval_dataset=VALID,
        compute_metrics=accuracy_of,
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1)),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


class Lit(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Classifier()

    def training_step(self, batch, _):
        return self.model(**batch)["loss"]

    def validation_step(self, batch, _):
        right = self.model(**batch)["logits"].argmax(-1) == batch["labels"]
        self.log("val/accuracy", right.float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def lightning_history(folder, **settings):
    callback = IntensiveMetricsCallback(**settings)
    trainer = pl.Trainer(
        max_epochs=2,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[callback],
        default_root_dir=folder,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    loaders = torch.utils.data.DataLoader(TRAIN, 8), torch.utils.data.DataLoader(VALID, 16)
    trainer.fit(Lit(), *loaders)
    return callback.history


def without_costs(history):
    return [{key: value for key, value in row.items() if not key.startswith(COSTS)} for row in history.rows("step")]


SETTINGS = {"every_n_steps": 3, "random_baseline": 1 / 3, "benchmark": None}


def test_values_are_those_of_the_lightning_callback(tmp_path):
    callback = IntensiveTrainerCallback(**SETTINGS)
    train(tmp_path / "hf", [callback])
    expected = lightning_history(tmp_path / "pl", **SETTINGS)
    ours, theirs = callback.history.newest(), expected.newest()
    assert ours.keys() == theirs.keys()
    assert ours["routing/coverage"] == 1
    assert ours["intensive/p3_score"] > 0
    assert without_costs(callback.history) == without_costs(expected)


def test_training_is_bit_identical(tmp_path):
    plain = train(tmp_path / "a", []).model.state_dict()
    model = train(tmp_path / "b", [IntensiveTrainerCallback(**SETTINGS)]).model
    assert all(map(torch.equal, plain.values(), model.state_dict().values()))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_accumulation_and_checkpointing_count_each_token_once(tmp_path):
    callback = IntensiveTrainerCallback(**SETTINGS)
    trainer = train(tmp_path, [callback], per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert trainer.state.global_step == 12
    assert callback.history.newest()["routing/coverage"] == 1
    whole = IntensiveTrainerCallback(**SETTINGS)
    train(tmp_path, [whole])
    seen = [callback.monitor.facts.seen_examples, whole.monitor.facts.seen_examples]
    assert seen == [96, 96]


def test_a_resumed_training_is_one_that_never_stopped(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 5}
    whole = IntensiveTrainerCallback(**SETTINGS)
    train(tmp_path, [whole], **saving)
    resumed = IntensiveTrainerCallback(**SETTINGS)
    train(tmp_path, [resumed], resume=str(tmp_path / "checkpoint-5"), **saving)
    # A resumed training may log to a new run, whose first row has the baseline, too.
    rows, expected = without_costs(resumed.history), without_costs(whole.history)
    rows[3] = {key: value for key, value in rows[3].items() if not key.startswith("baseline/")}
    assert rows == expected


def test_a_checkpoint_without_our_state_is_said(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 5}
    train(tmp_path, [], **saving)
    with pytest.warns(RuntimeWarning, match=r"no intensive_callbacks.pt in the checkpoint of step 5"):
        train(tmp_path, [IntensiveTrainerCallback(**SETTINGS)], resume=str(tmp_path / "checkpoint-5"), **saving)


def test_the_accuracy_of_chance_is_measured(tmp_path):
    callback = IntensiveTrainerCallback(random_baseline="measure", every_n_steps=3, benchmark=None)
    trainer = train(tmp_path, [callback])
    untrained = next(row["eval_accuracy"] for row in trainer.state.log_history if "eval_accuracy" in row)
    assert callback.history.rows("step")[0]["baseline/random_accuracy"] == pytest.approx(untrained)


def test_an_evaluation_without_the_accuracy_is_said(tmp_path):
    callback = IntensiveTrainerCallback("eval_acc", **SETTINGS)
    with pytest.warns(RuntimeWarning, match=r"accuracy='eval_acc' is not among the metrics .*eval_accuracy"):
        train(tmp_path, [callback])


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match=r"unknown arguments every_n_step; .*every_n_steps"):
        IntensiveTrainerCallback(every_n_step=3)
    with pytest.raises(ValueError, match="every_n_steps must be at least 1"):
        IntensiveTrainerCallback(every_n_steps=0)
    with pytest.raises(KeyError, match="no_such_key"):
        IntensiveTrainerCallback(metrics=["no_such_key"])


def test_trackers_files_and_log_history_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    callback = IntensiveTrainerCallback(**SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = train(tmp_path, [callback], report_to=["wandb", "tensorboard"])
        import wandb

        wandb.finish()
    expected = {
        row["step"]: row["routing/load_entropy"]
        for row in callback.history.rows("step")
        if "routing/load_entropy" in row
    }
    files = [json.loads(line) for line in (tmp_path / "intensive_metrics/values.jsonl").read_text().splitlines()]
    assert {row["step"]: row["routing/load_entropy"] for row in files if "routing/load_entropy" in row} == expected
    logged = {
        row["step"]: row["routing/load_entropy"] for row in trainer.state.log_history if "routing/load_entropy" in row
    }
    assert logged == expected
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    rows = history(inspected(run))
    in_wandb = [row for row in rows if "routing/load_entropy" in row]
    assert {row["trainer/global_step"]: row["routing/load_entropy"] for row in in_wandb} == pytest.approx(expected)
    assert len(tables(run, "final_benchmark")) == 1
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert {"routing/load_entropy", "eval/accuracy"} <= set(events.Tags()["scalars"])
