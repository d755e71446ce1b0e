"""MLflow's own stores on this machine, read back by its client."""

import json
from pathlib import Path

import pytest

from intensive_callbacks.sinks import LoggerSink, MlflowSink
from sinks.logged import ALARM, CELLS, CES, P3, POINTS, VERDICT, log_all, table

mlflow = pytest.importorskip("mlflow")
# MLflow's and its libraries' own.
pytestmark = pytest.mark.filterwarnings("ignore")
ARTIFACTS = {"alerts.txt", "final_benchmark.csv", "final_benchmark.md"}
ARTIFACTS |= {"intensive_overview.json", "intensive_overview.png", "routing_heatmap.json", "routing_heatmap.png"}


@pytest.fixture(params=["files", "sqlite"])
def uri(request, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which MLflow 3 asks for
    if request.param == "files":
        return (tmp_path / "mlruns").as_uri()
    pytest.importorskip("sqlalchemy")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def check(client, run_id, folder, prefix=""):
    """Everything of :func:`log_all` is in the run."""
    steps = [(m.step, m.value) for m in client.get_metric_history(run_id, f"{prefix}{P3}")]
    assert steps == [(49, 1.0), (99, 2.0)]
    (undefined,) = client.get_metric_history(run_id, f"{prefix}{CES}")
    assert undefined.step == 49
    assert client.get_run(run_id).data.tags["routing/health"] == VERDICT
    assert {file.path for file in client.list_artifacts(run_id)} >= ARTIFACTS

    def read(name):
        return Path(client.download_artifacts(run_id, name, str(folder))).read_bytes()

    assert read("final_benchmark.md").decode() == table().to_markdown()
    assert read("final_benchmark.csv").decode() == table().to_csv()
    assert read("alerts.txt").decode() == f"routing/health: {ALARM}\n"
    overview = json.loads(read("intensive_overview.json"))["rows"]
    assert [(row["metric"], row["step"], row["value"]) for row in overview] == POINTS
    heatmap = json.loads(read("routing_heatmap.json"))["rows"]
    assert [(row["layer"], row["expert"], row["load"]) for row in heatmap] == CELLS
    for name in ("intensive_overview.png", "routing_heatmap.png"):
        assert read(name).startswith(b"\x89PNG")


def test_a_run_holds_all_that_was_logged(uri, tmp_path):
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("tiny", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    log_all(MlflowSink(client, run_id))
    (tmp_path / "read").mkdir()
    check(client, run_id, tmp_path / "read")


def test_a_lightning_logger_gives_its_client_the_rest(uri, tmp_path):
    from pytorch_lightning.loggers import MLFlowLogger

    logger = MLFlowLogger("tiny", tracking_uri=uri, prefix="mine", artifact_location=(tmp_path / "artifacts").as_uri())
    sink = LoggerSink(logger)
    log_all(sink)
    assert isinstance(sink.tracker, MlflowSink)
    (tmp_path / "read").mkdir()
    check(logger.experiment, logger.run_id, tmp_path / "read", "mine-")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A client and the id of a new run in a file store."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # set_tracking_uri writes it
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())  # where load_table looks
    client = mlflow.MlflowClient()
    return client, client.create_run(client.create_experiment("tiny")).info.run_id


def test_the_table_is_one_that_mlflow_can_load(run):
    pytest.importorskip("pandas")
    client, run_id = run
    MlflowSink(client, run_id).log_table("final_benchmark", table())
    loaded = client.load_table(client.get_run(run_id).info.experiment_id, "final_benchmark.json", [run_id])
    assert list(loaded["model"]) == ["tiny", "large"]
    assert list(loaded["accuracy (fraction)"]) == pytest.approx([0.9, 0.95])


def test_more_values_than_one_call_takes_are_all_logged(run):
    client, run_id = run
    values = {f"routing/layer {number}": float(number) for number in range(1001)}
    MlflowSink(client, run_id).log_values(values, 1)
    assert client.get_run(run_id).data.metrics == values
