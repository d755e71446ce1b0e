"""What stands at the end is of the end: of a run that ends, is interrupted, or goes on from between two values."""

import signal

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from callback.runs import LogCalls, fit
from callback.test_tokens import NUM_PARAMS, Bigram
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback, Monitor

# The checkpoint was written by a callback that the resumed run does without.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended"),
]
COI = "intensive/chinchilla_optimality"


def train(callback, num_steps, logger=False, **settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": bool(settings.get("ckpt_path")) or "callbacks" in settings}
    callbacks, path = [callback, *settings.pop("callbacks", [])], settings.pop("ckpt_path", None)
    trainer = pl.Trainer(max_steps=num_steps, max_epochs=-1, callbacks=callbacks, logger=logger, **quiet, **settings)
    texts = [{"input_ids": torch.full((16,), 3)} for _ in range(400)]
    trainer.fit(Bigram(), DataLoader(texts, 4), ckpt_path=path)
    return trainer


def chinchilla(num_steps):
    return 20 * NUM_PARAMS / (num_steps * 4 * 16)


def test_the_index_at_the_end_is_that_of_all_steps(tmp_path):
    callback = IntensiveMetricsCallback(None, every_n_steps=10, benchmark=None)
    trainer = train(callback, 19, default_root_dir=tmp_path)
    assert float(trainer.callback_metrics[COI]) == pytest.approx(chinchilla(19))
    assert callback.history.newest()[COI] == pytest.approx(chinchilla(19))


def test_a_run_shorter_than_n_steps_has_its_routing():
    callback, logger = IntensiveMetricsCallback(every_n_steps=50, random_baseline=0.1, benchmark=None), LogCalls()
    fit(callback, logger=logger, max_epochs=1)
    assert [step for step, values in logger.calls if "routing/max_violation" in values] == [9]


@pytest.mark.parametrize("stop", [7, 10, 13])
def test_tokens_between_two_values_are_in_the_checkpoint(stop, tmp_path):
    keeping = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=stop, filename="mid", save_top_k=-1)
    settings = {"every_n_steps": 5, "benchmark": None, "metrics": ["COI"]}
    train(IntensiveMetricsCallback(None, **settings), stop, callbacks=[keeping], default_root_dir=tmp_path)
    resumed = IntensiveMetricsCallback(None, **settings)
    train(resumed, 20, ckpt_path=tmp_path / "mid.ckpt", default_root_dir=tmp_path)
    assert resumed.history.newest()[COI] == pytest.approx(chinchilla(20))


class Interrupted(DigitsClassifier):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_start(self, batch, batch_idx):
        if self.trainer.global_step == 13:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")], ids=repr)
def test_an_interrupted_run_has_the_table_of_what_there_is(error, tmp_path, capsys):
    handler = signal.getsignal(signal.SIGINT)
    callback = IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, benchmark=None, model_name="stopped")
    try:
        with pytest.raises((SystemExit, RuntimeError)):
            fit(callback, model=Interrupted(error), default_root_dir=tmp_path)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().out.count("stopped") >= 1
    table = (tmp_path / "intensive_metrics" / "final_benchmark.md").read_text()
    assert "stopped" in table
    assert callback.history.rows()[-1]["step"] == 13


def test_flops_are_per_token_where_tokens_are_given():
    model = torch.nn.Sequential(torch.nn.Embedding(50, 16), torch.nn.Linear(16, 50))
    ids = torch.randint(50, (4, 12))
    with Monitor(model, every_n_steps=1, num_tokens=lambda batch: batch[0].numel(), benchmark=None) as monitor:
        monitor.observe((ids, ids))
        model(ids)
        values = monitor.log(1)
    assert values["baseline/flops_per_token"] == 2 * 16 * 50
