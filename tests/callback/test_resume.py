"""A resumed run goes on where it was: history, overview and final table."""

import pytest
import pytorch_lightning as pl
import torch

from callback.runs import LogCalls, fit
from digits import DigitsClassifier
from intensive_callbacks import IntensiveMetricsCallback

P3 = "intensive/p3_score"
# The checkpoint was written by a callback that the resumed run does without.
pytestmark = pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint:UserWarning")


def watching(**settings):
    return IntensiveMetricsCallback(**{"every_n_steps": 4, "random_baseline": "measure", "benchmark": None, **settings})


@pytest.fixture
def checkpoint(tmp_path):
    """The end of the first of two epochs."""
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="first")
    first = watching()
    fit(first, saving, max_epochs=1, enable_checkpointing=True)
    return tmp_path / "first.ckpt", first


def test_history_and_table_go_on(checkpoint):
    path, first = checkpoint
    resumed, logger = watching(), LogCalls()
    fit(resumed, ckpt_path=path, logger=logger)
    rows = resumed.history.rows()
    assert [row["step"] for row in rows if P3 in row] == [10, 20]
    before = first.history.rows()[:-1]  # the checkpoint was written before the last window was closed
    assert rows[: len(before)] == before
    assert [step for step, values in logger.calls if "routing/load_entropy" in values] == [11, 15, 19]
    assert resumed.monitor.facts.seen_examples == 640


def test_chance_is_not_measured_again_on_the_trained_model(checkpoint):
    path, first = checkpoint
    resumed = watching()
    fit(resumed, ckpt_path=path)
    assert resumed.monitor.facts.random_baseline == first.monitor.facts.random_baseline


def test_a_resumed_training_is_the_resumed_training_without_it(checkpoint):
    path, _ = checkpoint
    models = []
    for callbacks in ([watching()], []):
        trainer = fit(*callbacks, ckpt_path=path)
        models.append(trainer.lightning_module)
        assert trainer.global_step == 20
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_checkpoint_of_a_run_without_it_can_be_resumed(tmp_path):
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="plain")
    fit(saving, max_epochs=1, enable_checkpointing=True)
    resumed = watching(random_baseline=0.1)
    fit(resumed, model=DigitsClassifier(), ckpt_path=tmp_path / "plain.ckpt")
    assert [row["step"] for row in resumed.history.rows() if P3 in row] == [20]


def test_the_checkpoint_can_be_loaded_as_weights_only(checkpoint):
    path, _ = checkpoint
    state = torch.load(path, weights_only=True)
    (ours,) = [value for key, value in state["callbacks"].items() if key.startswith("IntensiveMetrics")]
    assert ours["history"]["series"]
