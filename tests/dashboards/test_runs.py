import math

import pytest
import wandb
from typer.testing import CliRunner

from intensive_callbacks import WandbSink
from intensive_callbacks.dashboards import charts_of, read_run
from intensive_callbacks.dashboards.cli import app


class Table:
    columns = ("model", "task", "protocol", "active params (B)", "accuracy (fraction)", "best in", "source")

    def rows(self):
        return [
            ["tiny", "digits", "test", 0.001, 0.9, "", "this run"],
            ["large", "digits", "test", 1.0, 0.95, "accuracy", "paper"],
        ]


@pytest.fixture
def folder(offline):
    """A finished offline run with scalars, the three tables and a key that is not ours."""
    run = wandb.init(project="p", name="tiny")
    history = [{"step": 50 * t, "intensive/p3_score": 1.0 + t} for t in range(300)]
    for row in history:
        run.log({"intensive/p3_score": row["intensive/p3_score"], "loss": 0.1, "trainer/global_step": row["step"]})
    run.log({"intensive/config_entropy": math.nan, "trainer/global_step": 15_000})
    sink = WandbSink(run)
    sink.log_chart("overview", history)
    sink.log_chart("heatmap", [{"step": 100, "loads": {"layer": [1, 3]}}])
    sink.log_table("final_benchmark", Table())
    folder = run.settings.sync_dir
    run.finish()
    wandb.teardown()  # the service process writes the end of the file after the run has finished
    return folder


def file_of(folder):
    from pathlib import Path

    (path,) = Path(folder).glob("*.wandb")
    return path


def test_a_run_is_read_as_it_was_logged(folder):
    run = read_run(folder)
    assert run.name == "tiny"
    assert run.rows == [{"step": 50 * t, "intensive/p3_score": 1.0 + t} for t in range(300)]
    assert [row["load"] for row in run.tables["routing_heatmap_table"]] == [0.5, 1.5]
    assert [row["model"] for row in run.tables["final_benchmark"]] == ["tiny", "large"]
    assert run.notes == []
    assert [chart.name for chart in charts_of([run])] == ["overview", "heatmap", "frontier", "benchmark"]


@pytest.mark.parametrize(
    "key", ["intensive/config_entropy_worst", "routing_by_layer/margin/h.0", "routing/margin/h.0", "mine/gini"]
)
def test_our_keys_and_registered_ones_are_read(key, offline, registered):
    run = wandb.init(project="p")
    run.log({key: 0.5, "mine/other": 1.0, "cost/tokens_per_second": 9.0, "trainer/global_step": 7})
    folder = run.settings.sync_dir
    run.finish()
    wandb.teardown()
    assert read_run(folder).rows == [{"step": 7, key: 0.5}]


def test_half_a_file_gives_half_the_rows_and_a_note(folder):
    path = file_of(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run = read_run(path)
    assert 50 < len(run.rows) < 300
    assert run.rows == [{"step": 50 * t, "intensive/p3_score": 1.0 + t} for t in range(len(run.rows))]
    assert any("incomplete" in note for note in run.notes)


def test_a_damaged_part_is_skipped_with_a_note(folder):
    path = file_of(folder)
    content = bytearray(path.read_bytes())
    content[20_000:20_200] = b"\xff" * 200
    path.write_bytes(content)
    run = read_run(path)
    assert 0 < len(run.rows) < 300
    assert any("corrupt" in note for note in run.notes)


def test_a_damaged_table_gives_a_note_and_the_rest_is_drawn(folder):
    (table,) = (file_of(folder).parent / "files/media/table").glob("final_benchmark*")
    table.write_text('{"columns": ["model"', encoding="utf-8")
    run = read_run(folder)
    assert any("final_benchmark could not be read" in note for note in run.notes)
    assert [chart.name for chart in charts_of([run])] == ["overview", "heatmap"]


def test_an_empty_file_and_noise_give_no_rows_and_a_note(tmp_path):
    for name, content in (("a.wandb", b""), ("b.wandb", bytes(range(256)) * 40)):
        path = tmp_path / name
        path.write_bytes(content)
        run = read_run(path)
        assert run.rows == []
        assert run.notes


def test_runs_of_the_same_name_are_numbered(folder):
    run = read_run(folder)
    charts = {chart.name: chart for chart in charts_of([run, run])}
    assert {row["run"] for row in charts["overview"].rows} == {"tiny #1", "tiny #2"}
    models = [row["model"] for row in charts["benchmark"].rows]
    assert models == ["tiny (tiny #1)", "tiny (tiny #2)", "large"]


def test_the_command_writes_page_and_images(folder, tmp_path):
    out = tmp_path / "new" / "page.html"
    result = CliRunner().invoke(app, ["render", str(folder), "--out", str(out), "--png", "--svg"])
    assert result.exit_code == 0, result.output
    names = {
        f"page-{chart}.{form}" for chart in ("overview", "heatmap", "frontier", "benchmark") for form in ("png", "svg")
    }
    assert {path.name for path in out.parent.iterdir()} == {"page.html", *names}
    assert "<title>tiny</title>" in out.read_text(encoding="utf-8")


def test_a_folder_without_a_run_is_a_one_line_error(tmp_path):
    result = CliRunner().invoke(app, ["render", str(tmp_path)])
    assert result.exit_code == 1
    assert "no .wandb file in" in result.output
    assert "Traceback" not in result.output
