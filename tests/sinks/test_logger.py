"""Which sink each logger gets; the loggers are real where they can be installed quickly."""

import json
from importlib import import_module
from pathlib import Path
from unittest.mock import MagicMock

import lightning
import pytest
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger, Logger

from intensive_callbacks.sinks import FileSink, LoggerSink, MlflowSink, Sink, TensorBoardSink, WandbSink, sinks_of
from intensive_callbacks.sinks.logger import tracker_of
from offline_runs import history, inspected, tables
from sinks.logged import CELLS, CES, P3, POINTS, VERDICT, log_all


class Plain:
    """A logger that can do no more than it must."""

    def __init__(self):
        self.calls = []

    def log_metrics(self, metrics, step=None):
        self.calls.append((step, set(metrics)))


class Broken(Plain):
    @property
    def experiment(self):
        raise ConnectionError


class Writer:
    def add_text(self, tag, text, step=None):
        pass

    def add_image(self, tag, image, step=None, **_):
        pass


class Client:
    def log_text(self, run_id, text, file):
        pass

    log_dict = log_artifact = set_tag = log_text


def having(experiment, **attributes):
    logger = Plain()
    vars(logger).update(experiment=experiment, **attributes)
    return logger


def test_a_logger_that_only_takes_values_gets_them():
    logger = Plain()
    (sink,) = sinks_of([logger])
    log_all(sink)
    assert logger.calls == [(49, {P3, CES}), (99, {P3})]
    assert type(sink.tracker) is Sink
    assert sink.name == "Plain"


def test_no_logger_is_touched_before_its_sink_is_used():
    sinks = sinks_of([Broken(), Plain()])
    sinks[0].log_values({P3: 1.0}, 1)
    with pytest.raises(ConnectionError):
        sinks[0].set_summary("routing/health", VERDICT)
    log_all(sinks[1])


def test_trackers_are_recognized_by_what_they_can_do():
    assert isinstance(tracker_of(having(Writer())), TensorBoardSink)
    sink = tracker_of(having(Client(), run_id="r"))
    assert isinstance(sink, MlflowSink)
    assert sink.run_id == "r"


def test_a_stand_in_that_can_do_everything_gets_nothing():
    from lightning_fabric.loggers.logger import _DummyExperiment

    for experiment in (_DummyExperiment(), MagicMock(), None):
        assert type(tracker_of(having(experiment))) is Sink
    assert type(tracker_of(DummyLogger())) is Sink
    log_all(LoggerSink(DummyLogger()))


@pytest.mark.parametrize(
    "package", [CSVLogger, lightning.pytorch.loggers.CSVLogger, lightning.fabric.loggers.CSVLogger]
)
def test_a_csv_logger_gets_files_beside_its_values(tmp_path, package):
    logger = package(tmp_path, name="tiny")
    sink = LoggerSink(logger)
    log_all(sink)
    assert isinstance(sink.tracker, FileSink)
    folder = Path(logger.log_dir)
    names = {"alerts.jsonl", "final_benchmark.csv", "final_benchmark.json", "final_benchmark.md", "heatmap.json"}
    names |= {"metrics.csv", "overview.json", "summary.json"}
    assert names <= {path.name for path in folder.iterdir()} <= names | {"hparams.yaml"}
    assert (folder / "metrics.csv").read_text().splitlines()[0] == f"{CES},{P3},step"
    overview = json.loads((folder / "overview.json").read_text())
    assert [(row["metric"], row["step"], row["value"]) for row in overview] == POINTS


@pytest.mark.parametrize("package", [CSVLogger, lightning.pytorch.loggers.CSVLogger])
def test_other_processes_write_nothing(tmp_path, monkeypatch, package):
    for name in ("lightning_utilities.core.rank_zero", "lightning_fabric.utilities.rank_zero"):
        monkeypatch.setattr(import_module(name).rank_zero_only, "rank", 1, raising=False)
    log_all(LoggerSink(package(tmp_path, name="tiny")))
    assert not list(tmp_path.rglob("*"))


def test_a_csv_logger_in_a_bucket_gets_no_local_files(tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    logger = CSVLogger("memory://bucket", name="tiny")
    log_all(LoggerSink(logger))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*anonymous:UserWarning")
@pytest.mark.parametrize("package", [WandbLogger, lightning.pytorch.loggers.WandbLogger])
def test_a_wandb_logger_keeps_prefix_and_x_axis(offline, package):
    logger = package(project="p", save_dir=offline, offline=True, prefix="mine")
    (sink,) = sinks_of([logger])
    log_all(sink)
    assert isinstance(sink.tracker, WandbSink)
    assert sink.tracker.prefix == "mine"
    folder = logger.experiment.settings.sync_dir
    logger.experiment.finish()
    rows = history(inspected(folder))
    assert [(row["trainer/global_step"], row[f"mine-{P3}"]) for row in rows if f"mine-{P3}" in row] == [
        (49, 1.0),
        (99, 2.0),
    ]
    assert [tuple(row[1:]) for row in tables(folder, "intensive_overview_table")[-1]["data"]] == POINTS
    assert [tuple(row[2:]) for row in tables(folder, "routing_heatmap_table")[-1]["data"]] == CELLS


def test_closing_saves_what_the_logger_has_buffered():
    class Saving(Logger):
        name = version = "saving"
        saved = 0

        def log_metrics(self, metrics, step=None):
            pass

        def log_hyperparams(self, params, *args, **kwargs):
            pass

        def save(self):
            self.saved += 1

    logger = Saving()
    log_all(LoggerSink(logger))
    assert logger.saved == 1
