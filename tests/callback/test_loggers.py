"""Where values go: W&B, any other logger, several, none."""

import json
from pathlib import Path

import lightning
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from callback.runs import LogCalls, fit
from digits import DigitsClassifier, loaders
from intensive_callbacks import IntensiveMetricsCallback
from offline_runs import inspected

P3 = "intensive/p3_score"
WANDB = [
    # Lightning 2.6 still passes wandb what its 0.31 has no use for.
    pytest.mark.filterwarnings("ignore:.*anonymous:UserWarning"),
]


def watching():
    return IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, benchmark="vision", task="digits")


def read(folder):
    """The history of an offline run, and all that it holds as lines of text."""
    records = inspected(folder)
    return [record["history"] for record in records if record["type"] == "history"], [
        json.dumps(record) for record in records
    ]


def finish(logger):
    folder = logger.experiment.settings.sync_dir
    logger.experiment.finish()
    return folder


def values(history, key):
    """(x, value) of every row of the history that has the key."""
    rows = [row.get("item", row) for row in history]
    return [(row["trainer/global_step"], row[key]) for row in rows if key in row]


def test_an_offline_wandb_run_read_back(offline):
    logger, callback = WandbLogger(project="p", save_dir=offline, offline=True), watching()
    fit(callback, logger=logger, log_every_n_steps=1)
    folder = finish(logger)
    history, lines = read(folder)
    assert [x for x, _ in values(history, "routing/load_entropy")] == [3, 7, 11, 15, 19]
    logged = [row[P3] for row in callback.history.rows() if P3 in row]
    assert [value for _, value in values(history, P3)] == pytest.approx(logged)
    for key in ("intensive_overview", "final_benchmark"):
        (table,) = Path(folder).glob(f"files/media/table/{key}*.table.json")
        assert json.loads(table.read_text())["data"]
    assert any("final_benchmark" in line for line in lines)
    assert any("intensive_overview" in line for line in lines)


def test_a_logger_prefix_is_kept(offline):
    logger = WandbLogger(project="p", save_dir=offline, offline=True, prefix="mine")
    fit(watching(), logger=logger)
    history, _ = read(finish(logger))
    assert len(values(history, f"mine-{P3}")) == 2


def test_any_other_logger_and_several(tmp_path):
    csv, calls = CSVLogger(tmp_path), LogCalls()
    fit(watching(), logger=[csv, calls])
    lines = (Path(csv.log_dir) / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index(P3)
    in_csv = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert in_csv == pytest.approx([values[P3] for _, values in calls.calls if P3 in values])


def test_none(capsys):
    callback = watching()
    fit(callback, logger=False)
    assert callback.history.newest()[P3] > 0
    assert "DigitsClassifier" in capsys.readouterr().out


def test_inside_a_trainer_of_the_package_named_lightning():
    class Twin(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = DigitsClassifier()

        def training_step(self, batch, index):
            return self.net.training_step(batch, index)

        def validation_step(self, batch, _):
            images, labels = batch
            self.log("val/accuracy", (self.net(images).argmax(-1) == labels).float().mean())

        def configure_optimizers(self):
            return self.net.configure_optimizers()

    callback = watching()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(callbacks=[callback], logger=False, max_epochs=1, accelerator="cpu", **quiet)
    trainer.fit(Twin(), *loaders())
    assert callback.history.newest()[P3] > 0


def test_lightnings_own_values_are_not_disturbed():
    class Logging(DigitsClassifier):
        def training_step(self, batch, _):
            loss = super().training_step(batch, _)
            self.log("train/loss", loss)
            return loss

    def of_lightning(*callbacks):
        torch.manual_seed(0)
        logger = LogCalls()
        fit(*callbacks, model=Logging(), logger=logger, log_every_n_steps=1)
        return [
            (step, call) for step, call in logger.calls if not any(k.startswith(("int", "rou", "bas")) for k in call)
        ]

    assert of_lightning(watching()) == of_lightning()


pytestmark = WANDB


def test_what_ails_the_routers_is_told_in_words_and_as_an_alert(offline, capsys):
    class Collapsed(DigitsClassifier):
        """Every token goes to the first two experts of the second block, and stays there."""

        def __init__(self):
            super().__init__()
            gate = self.blocks[1].gate
            torch.nn.init.zeros_(gate.weight)
            gate.bias.data = torch.tensor([9.0, 8.0, 0, 0, 0, 0, 0, 0])

    logger = WandbLogger(project="p", save_dir=offline, offline=True)
    callback = IntensiveMetricsCallback(every_n_steps=10, random_baseline=0.1, benchmark=None, alert=True)
    with pytest.warns(UserWarning, match=r"collapse in blocks.1: 2.0 effective experts of 8"):
        fit(callback, model=Collapsed(), logger=logger, max_epochs=1)
    assert logger.experiment.summary["routing/health"].startswith("collapse in blocks.1")
    _, lines = read(finish(logger))
    (alert,) = [line for line in lines if '"type": "alert"' in line and "collapse in blocks.1" in line]
    assert "routing/health" in alert
    assert "routing/health: collapse in blocks.1" in capsys.readouterr().out
