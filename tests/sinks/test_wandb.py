import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from intensive_callbacks import untrusted
from intensive_callbacks.sinks import WandbSink
from intensive_callbacks.sinks import wandb as module
from offline_runs import history, inspected, tables
from sinks.logged import ALARM, CELLS, P3, POINTS, VERDICT, log_all


@pytest.fixture
def run(offline):
    run = wandb.init(project="p", name="tiny")
    yield run
    run.finish()


def finished(run):
    """The folder of a run that ends now, and all its records."""
    folder = run.settings.sync_dir
    run.finish()
    return folder, inspected(folder)


def charts_in(records):
    """The panels that the run's config asks for, by key."""
    config = {}
    for record in records:
        config |= record.get("config", {}).get("update", {})
    prefix = "_wandb.visualize."
    return {key.removeprefix(prefix): value["panel_config"] for key, value in config.items() if key.startswith(prefix)}


def test_an_offline_run_holds_all_that_was_logged(run):
    sink = WandbSink(run)
    log_all(sink)
    sink.alert("routing/health", "collapse in blocks.1")
    assert run.summary["routing/health"] == VERDICT
    folder, records = finished(run)
    rows = history(records)
    assert [(row["trainer/global_step"], row[P3]) for row in rows if P3 in row] == [(49, 1.0), (99, 2.0)]

    preview, overview = tables(folder, "intensive_overview_table")
    assert overview["columns"] == ["run", "metric", "step", "value"]
    assert overview["data"] == [["tiny", *point] for point in POINTS]
    assert preview["data"] == [["tiny", key, step, value] for key, step, value in POINTS if step == 0]
    shown = [row["intensive_overview_table.path"] for row in rows if "intensive_overview_table.path" in row][-1]
    assert json.loads((Path(folder) / "files" / shown).read_text(encoding="utf-8")) == overview
    (heatmap,) = tables(folder, "routing_heatmap_table")
    assert heatmap["columns"] == ["run", "step", "layer", "expert", "load"]
    assert heatmap["data"] == [["tiny", 100, *cell] for cell in CELLS]
    (benchmark,) = tables(folder, "final_benchmark")
    assert [row[0] for row in benchmark["data"]] == ["tiny", "large"]

    charts = charts_in(records)
    assert set(charts) == {"intensive_overview"}
    assert charts["intensive_overview"]["panelDefId"] == "wandb/lineseries/v0"
    fields = {"step": "step", "lineKey": "metric", "lineVal": "value"}
    assert charts["intensive_overview"]["fieldSettings"] == fields

    alerts = [record["alert"] for record in records if record["type"] == "alert"]
    assert [alert["text"] for alert in alerts] == [ALARM, "collapse in blocks.1"]
    assert {alert["title"] for alert in alerts} == {"routing/health"}
    # W&B's server holds back what comes within this time after an alert of the same title.
    assert all(int(alert["wait_duration"]) <= 1 for alert in alerts)


def test_published_presets_draw_the_same_tables(run):
    presets = {name: f"team/intensive-{name}-0" for name in ("overview", "heatmap")}
    sink = WandbSink(run, presets=presets)
    log_all(sink)
    sink.log_table("t", SimpleNamespace(columns=["model", "P3"], rows=lambda: [["a", 1.0], ["b", math.nan]]))
    folder, records = finished(run)
    charts = charts_in(records)
    assert {key: chart["panelDefId"] for key, chart in charts.items()} == {
        "intensive_overview": presets["overview"],
        "routing_heatmap": presets["heatmap"],
    }
    assert tables(folder, "intensive_overview_table")[-1]["data"] == [["tiny", *point] for point in POINTS]
    assert tables(folder, "routing_heatmap_table")[-1]["data"] == [["tiny", 100, *cell] for cell in CELLS]
    assert tables(folder, "t") == [{"columns": ["model", "P3"], "data": [["a", 1.0], ["b", None]]}]


def test_values_of_a_plain_loop_share_lightnings_x_axis(run):
    sink, prefixed = WandbSink(run), WandbSink(run, prefix="mine")
    for step in range(3):
        run.log({"loss": 1.0})
        sink.log_values({P3: float(step)}, 10 * step)
    prefixed.log_values({P3: 3.0}, 30)
    records = finished(run)[1]
    rows = history(records)
    assert [(r["trainer/global_step"], r[P3]) for r in rows if P3 in r] == [(0, 0.0), (10, 1.0), (20, 2.0)]
    assert [(r["trainer/global_step"], r[f"mine-{P3}"]) for r in rows if f"mine-{P3}" in r] == [(30, 3.0)]
    defined = [record["metric"] for record in records if record["type"] == "metric"]
    axes = {metric["name"]: metric.get("step_metric") for metric in defined if "name" in metric}
    assert axes[P3] == axes[f"mine-{P3}"] == "trainer/global_step"
    assert "loss" not in axes


def test_a_loop_that_passes_its_own_step_loses_no_row(run):
    sink = WandbSink(run)
    for step in range(5):
        run.log({"loss": float(step)}, step=step)
        sink.log_values({P3: float(step)}, step)
    rows = history(finished(run)[1])
    assert [row["loss"] for row in rows if "loss" in row] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [row[P3] for row in rows if P3 in row] == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("value", [None, 0, 1.5, "words", True])
def test_a_finite_cell_is_kept(value):
    assert module._cell(value) is value


def test_nothing_to_draw_logs_nothing(run):
    sink = WandbSink(run)
    sink.log_chart("overview", [{"step": 0, P3: math.nan}])
    sink.log_chart("heatmap", [])
    sink.publish()
    assert sink.presets == {}
    assert run.step == 0
    run.finish()
    assert not list(Path(run.settings.sync_dir).glob("files/media"))


def test_the_line_to_sync_names_the_runs_folder(run):
    command = module.sync_command(run)
    assert command.startswith("wandb sync ")
    assert Path(command.removeprefix("wandb sync ")).is_dir()


def test_only_a_real_run_is_taken_for_one(offline):
    from pytorch_lightning.loggers import CSVLogger, WandbLogger
    from pytorch_lightning.loggers.logger import DummyLogger

    logger = WandbLogger(save_dir=offline, offline=True, project="p")
    others = [DummyLogger(), CSVLogger(offline)]
    assert [module.is_run(each.experiment) for each in [*others, logger]] == [False, False, True]
    logger.experiment.finish()


def test_looking_for_a_run_does_not_import_wandb():
    code = """if True:
        import sys
        from intensive_callbacks.sinks.wandb import is_run
        assert not is_run(object())
        assert "wandb" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


class StoredFile:
    """A file of a run on a server, which says of itself what the server likes."""

    def __init__(self, name, content=b'{"columns": [], "data": []}', size=None):
        self.name, self.content, self.size = name, content, len(content) if size is None else size

    def download(self, root):
        path = Path(root, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        return path.open(encoding="utf-8")


def downloaded(monkeypatch, *files):
    run = SimpleNamespace(files=lambda pattern: iter(files))
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(run=lambda path: run))
    return module.download_table("e/p/run")


STORED = "media/table/final_benchmark_3_ab.table.json"


@pytest.mark.parametrize(
    "name",
    [
        "media/table/final_benchmark_9_/../../../../evil.table.json",
        "media/table/final_benchmark_x_ab.table.json",
        "../final_benchmark_9_ab.table.json",
    ],
)
def test_table_is_not_written_where_a_servers_name_says(monkeypatch, name):
    assert downloaded(monkeypatch, StoredFile(STORED), StoredFile(name, b"[]")) == {"columns": [], "data": []}
    with pytest.raises(FileNotFoundError, match="has no table"):
        downloaded(monkeypatch, StoredFile(name))


def test_large_table_is_refused_before_and_after_its_download(monkeypatch):
    with pytest.raises(ValueError, match="more than 64,000,000 bytes"):
        downloaded(monkeypatch, StoredFile(STORED, size=64_000_001))
    monkeypatch.setattr(untrusted, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        downloaded(monkeypatch, StoredFile(STORED, size=9))


@pytest.mark.parametrize("content", [b"{", b"[" * 60 + b"]" * 60])
def test_table_that_is_no_json_is_a_value_error(monkeypatch, content):
    with pytest.raises(ValueError, match="is not JSON"):
        downloaded(monkeypatch, StoredFile(STORED, content))
