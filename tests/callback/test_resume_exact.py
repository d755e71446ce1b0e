"""A resumed run is the run that was never interrupted: every logged value, window, load and count."""

import math
import signal
import warnings
from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.connectors import signal_connector
from torch.utils.data import DataLoader, TensorDataset

from digits import DigitsClassifier
from intensive_callbacks import CriticalBatchSize, IntensiveMetricsCallback, Monitor, Tap

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=:UserWarning"),
]
BATCH, N, STEPS = 16, 4, 24  # an epoch has 10 steps


def loader(num_batches):
    """The same batch again and again: Lightning replays the batches of an interrupted epoch."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(BATCH, 64, generator=draw), torch.randint(10, (BATCH,), generator=draw)
    return DataLoader(TensorDataset(images.repeat(num_batches, 1), labels.repeat(num_batches)), BATCH)


class Stopping(DigitsClassifier):
    """Raises before a step, at one batch; with ``requeue`` the cluster's signal to checkpoint comes just before."""

    stop, requeue = None, False

    def training_step(self, batch, index):
        if self.stop is not None and self.trainer.global_step == self.stop:
            if self.requeue:
                self.trainer._signal_connector._slurm_sigusr_handler_fn(signal.SIGUSR1, None)
            raise RuntimeError("stopped")
        return super().training_step(batch, index)


def run(folder, *others, steps=STEPS, stop=None, requeue=False, ckpt_path=None, accumulate=1):
    pl.seed_everything(0, verbose=False)
    model, taps = Stopping(), [Tap("head", lambda inputs, output: output, "D_eff")]
    model.stop, model.requeue = stop, requeue
    metrics = ["default", "routing/margin", *(["B_crit"] if accumulate > 1 else [])]
    callback = IntensiveMetricsCallback(
        every_n_steps=N, random_baseline=0.1, benchmark=None, taps=taps, metrics=metrics, observe="every_step"
    )
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        callbacks=[callback, *others],
        enable_checkpointing=bool(others) or ckpt_path is not None,
        default_root_dir=folder,
        accumulate_grad_batches=accumulate,
        **quiet,
    )
    with nullcontext() if stop is None else pytest.raises(RuntimeError, match="stopped"):
        trainer.fit(model, loader(10 * accumulate), loader(2), ckpt_path=ckpt_path)
    return callback


def rows(callback):
    """What was logged, but the speed, which no two runs share, and the baseline, which each run logs first."""
    return [
        {key: value for key, value in row.items() if not key.startswith(("cost/", "baseline/"))}
        for row in callback.history.rows()
    ]


def check(resumed, whole):
    kept = [row for row in rows(resumed) if len(row) > 1]
    expected = [row for row in rows(whole) if len(row) > 1]
    assert [row["step"] for row in kept] == [row["step"] for row in expected]
    for row, other in zip(kept, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-6, nan_ok=True), row["step"]
    assert resumed.monitor.heatmap.rows() == whole.monitor.heatmap.rows()
    facts, others = resumed.monitor.facts, whole.monitor.facts
    for name in ("seen_examples", "num_windows", "num_flops", "num_examples", "active_params", "curve"):
        assert getattr(facts, name) == getattr(others, name), name
    assert resumed.monitor.verdict() == whole.monitor.verdict()


@pytest.fixture(scope="module", params=[1, 2], ids=["", "accumulated"])
def whole(request, tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), accumulate=request.param), request.param


@pytest.mark.parametrize("step", [3, 4, 13, 23])
def test_from_a_checkpoint_of_any_step(step, whole, tmp_path):
    whole, accumulate = whole
    keeping = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=step, filename="mid", save_top_k=-1)
    run(tmp_path, keeping, steps=step, accumulate=accumulate)
    resumed = run(tmp_path, ckpt_path=tmp_path / "mid.ckpt", accumulate=accumulate)
    check(resumed, whole)


def test_from_a_checkpoint_of_the_end_of_an_epoch(whole, tmp_path):
    whole, accumulate = whole
    keeping = pl.callbacks.ModelCheckpoint(tmp_path, filename="epoch")
    run(tmp_path, keeping, steps=10, accumulate=accumulate)
    check(run(tmp_path, ckpt_path=tmp_path / "epoch.ckpt", accumulate=accumulate), whole)


def test_from_a_checkpoint_after_the_end(whole, tmp_path):
    whole, accumulate = whole
    ended = run(tmp_path, steps=14, accumulate=accumulate)
    ended.monitor.model.trainer.save_checkpoint(tmp_path / "ended.ckpt")
    check(run(tmp_path, ckpt_path=tmp_path / "ended.ckpt", accumulate=accumulate), whole)


def test_from_the_checkpoint_of_an_exception(whole, tmp_path):
    whole, accumulate = whole
    keeping = pl.callbacks.OnExceptionCheckpoint(tmp_path, filename="raised")
    run(tmp_path, keeping, stop=14, accumulate=accumulate)
    check(run(tmp_path, ckpt_path=tmp_path / "raised.ckpt", accumulate=accumulate), whole)


@pytest.mark.parametrize("step", [10, 14, 21])
def test_from_the_checkpoint_of_a_requeued_job(step, whole, tmp_path, monkeypatch):
    whole, accumulate = whole
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    commands = []
    monkeypatch.setattr(signal_connector, "call", lambda command: commands.append(command) or 0)
    run(tmp_path, stop=step, requeue=True, accumulate=accumulate)
    assert commands == [["scontrol", "requeue", "1"]]
    check(run(tmp_path, ckpt_path="hpc", accumulate=accumulate), whole)


def test_time_before_the_checkpoint_counts():
    model = torch.nn.Linear(4, 2)
    with Monitor(model, every_n_steps=10, benchmark=None) as monitor:
        for step in range(1, 6):
            monitor.observe(torch.ones(8, 4))
            monitor.pass_over(step)
        state = monitor.state_dict()
    state["window"]["costs"]["seconds"] = 1000.0
    with Monitor(model, every_n_steps=10, benchmark=None) as resumed:
        resumed.load_state_dict(state)
        resumed.begin_training(5)
        for step in range(6, 11):
            resumed.observe(torch.ones(8, 4))
            values = resumed.log(step)
    assert values["cost/examples_per_second"] == pytest.approx(10 * 8 / 1000, rel=0.01)


def test_a_batch_in_flight_is_not_in_the_checkpoint():
    with Monitor(torch.nn.Linear(4, 2), every_n_steps=10, benchmark=None) as monitor:
        for step in range(1, 4):
            monitor.observe(torch.ones(8, 4))
            monitor.log(step)
        monitor.observe(torch.ones(8, 4))
        assert monitor.state_dict()["window"]["counts"]["examples"] == 2 * 8  # the first value has the first batch
    assert monitor.facts.seen_examples == 8


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"history": {"series": []}, "facts": {"seen_examples": 5}, "errors": {}},
        {"step": 7, "unknown": 1, "facts": {"unknown": 2}, "history": {"series": [], "more": 3}},
        {"step": "seven", "history": None, "heatmap": 3, "facts": [], "errors": {"a": "b"}, "window": []},
    ],
    ids=["no version", "an older one", "a newer one", "a broken one"],
)
def test_a_state_of_another_version(state):
    with Monitor(torch.nn.Linear(4, 2), every_n_steps=2, benchmark=None) as monitor:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monitor.load_state_dict(state)
        said = [str(each.message) for each in caught if "another version wrote" in str(each.message)]
        assert len(said) == 1
        monitor.begin_training(7)
        for step in (8, 9):
            monitor.observe(torch.ones(8, 4))
            values = monitor.log(step, accuracy=0.5)
    assert values["intensive/p3_score"] == pytest.approx(50 / (10 / 1e9))


def test_a_key_logged_before_the_checkpoint_did_come(recwarn):
    model = torch.nn.Linear(4, 2)
    with Monitor(model, every_n_steps=1, metrics=["P3"], benchmark=None) as monitor:
        monitor.observe(torch.ones(8, 4))
        monitor.log(1, accuracy=0.5)
    with Monitor(model, every_n_steps=1, metrics=["P3"], benchmark=None) as resumed:
        resumed.load_state_dict(monitor.state_dict())
        resumed.begin_training(1)
        resumed.observe(torch.ones(8, 4))
        resumed.log(2)
    assert not [each for each in recwarn if "P3" in str(each.message)]


def test_a_second_training_of_the_same_objects_begins_anew():
    model, metric = torch.nn.Linear(4, 2), CriticalBatchSize(8, 16)
    with Monitor(model, every_n_steps=2, metrics=["P3", metric], benchmark=None) as monitor:
        for attempt in range(2):
            monitor.attach()
            if attempt:
                with pytest.warns(RuntimeWarning, match="a new training begins after step 4: the history"):
                    monitor.begin_training(0)
            for step in range(1, 5):
                monitor.observe(torch.ones(8, 4))
                monitor.observe_gradients(torch.tensor(2.0 + attempt), torch.tensor(1.0), 8, 16)
                values = monitor.log(step, accuracy=0.5 if step == 4 else None)
            assert [row["step"] for row in monitor.history.rows()] == [1, 2, 4]
            assert monitor.facts.seen_examples == 32
            # |G|^2 = (16 x 1 - 8 x s) / 8 and tr(Sigma) = (s - 1) / (1 / 8 - 1 / 16), s the small squared norm.
            small = 2.0 + attempt
            expected = (small - 1) * 16 / ((16 - 8 * small) / 8) if small < 2 else math.nan
            assert values["intensive/critical_batch_size"] == pytest.approx(expected, nan_ok=True)
