import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from intensive_callbacks.sinks import wandb as sink
from offline_runs import inspected

HISTORY = [
    {"step": 0, "intensive/p3_score": 1.0, "intensive/config_entropy": 0.5},
    {"step": 50, "intensive/p3_score": 2.0, "intensive/config_entropy": math.nan},
    {"step": 100, "intensive/p3_score": 3.0, "intensive/config_entropy": 0.7},
]


def table(folder, key):
    (path,) = Path(folder).glob(f"files/media/table/{key}_*.table.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_an_offline_run_holds_the_chart_and_both_tables(offline):
    run = wandb.init(project="p", name="tiny")
    benchmark = SimpleNamespace(columns=["model", "P3"], rows=lambda: [["a", 1.0], ["b", math.nan]])
    sink.log_overview(run, HISTORY)
    sink.log_table(run, benchmark)
    folder = run.settings.sync_dir
    run.finish()

    assert table(folder, "intensive_overview_table") == {
        "columns": ["run", "metric", "step", "value"],
        "data": [
            ["tiny", "intensive/p3_score", 0, 1.0],
            ["tiny", "intensive/p3_score", 50, 2.0],
            ["tiny", "intensive/p3_score", 100, 3.0],
            ["tiny", "intensive/config_entropy", 0, 0.5],
            ["tiny", "intensive/config_entropy", 100, 0.7],
        ],
    }
    assert table(folder, "final_benchmark") == {"columns": ["model", "P3"], "data": [["a", 1.0], ["b", None]]}
    records = inspected(folder)
    config = {}
    for record in records:
        config |= record.get("config", {}).get("update", {})
    chart = config["_wandb.visualize.intensive_overview"]["panel_config"]
    assert chart["panelDefId"] == "wandb/lineseries/v0"
    assert chart["fieldSettings"] == {"step": "step", "lineKey": "metric", "lineVal": "value"}
    logged = [set(record["history"]["item"]) for record in records if record["type"] == "history"]
    assert "intensive_overview_table.path" in logged[0]
    assert "final_benchmark.path" in logged[1]


def test_a_published_preset_draws_the_same_table(offline):
    run = wandb.init(project="p")
    sink.log_overview(run, HISTORY, preset="team/intensive-overview-0")
    folder = run.settings.sync_dir
    run.finish()
    text = json.dumps(inspected(folder))
    assert "team/intensive-overview-0" in text
    assert len(table(folder, "intensive_overview_table")["data"]) == 5


def test_nothing_to_draw_logs_nothing(offline):
    run = wandb.init(project="p")
    sink.log_overview(run, [{"step": 0, "intensive/p3_score": math.nan}])
    folder = run.settings.sync_dir
    run.finish()
    assert not list(Path(folder).glob("files/media"))


def test_the_line_to_sync_names_the_runs_folder(offline):
    run = wandb.init(project="p", dir=offline)
    command = sink.sync_command(run)
    run.finish()
    assert command.startswith("wandb sync ")
    assert Path(command.removeprefix("wandb sync ")).is_dir()


def test_the_growing_overview_is_logged_at_each_doubling(monkeypatch):
    logged = []
    monkeypatch.setattr(sink, "log_overview", lambda run, rows, preset: logged.append((run, len(rows), preset)))
    overview, rows = sink.GrowingOverview("run", "team/preset"), []
    for step in range(100):
        rows.append({"step": step})
        overview.grow(lambda: rows)
    assert logged == [("run", 16, "team/preset"), ("run", 32, "team/preset"), ("run", 64, "team/preset")]


def test_the_growing_overview_gives_up_once_it_has_failed(monkeypatch):
    calls = []

    def fail(*_):
        calls.append(1)
        raise ConnectionError

    monkeypatch.setattr(sink, "log_overview", fail)
    overview = sink.GrowingOverview("run")
    for _ in range(15):
        overview.grow(list)
    with pytest.raises(ConnectionError):
        overview.grow(list)
    for _ in range(100):
        overview.grow(list)
    assert calls == [1]


def test_only_a_real_run_is_taken_for_one(offline):
    from pytorch_lightning.loggers import CSVLogger, WandbLogger
    from pytorch_lightning.loggers.logger import DummyLogger

    logger = WandbLogger(save_dir=offline, offline=True, project="p")
    others = [DummyLogger(), CSVLogger(offline)]
    assert sink.find_run(others) is None
    assert sink.find_run([*others, logger]) is logger.experiment
    logger.experiment.finish()


def test_looking_for_a_run_does_not_import_wandb():
    code = """if True:
        import sys
        from intensive_callbacks.sinks.wandb import find_run
        assert find_run([object()]) is None
        assert "wandb" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("value", [None, 0, 1.5, "words", True])
def test_a_finite_cell_is_kept(value):
    assert sink._cell(value) is value
