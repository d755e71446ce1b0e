import csv
import dataclasses
import io
import json

import pytest
import typer
from typer.testing import CliRunner

from benchmark_table.rows import DENSE, MOE, OURS
from benchmark_table.test_harness import ANSWERS, write
from intensive_callbacks import BenchmarkTable
from intensive_callbacks.benchmark.cli import leaderboard


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(leaderboard)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def own_csv(tmp_path):
    path = tmp_path / "own.csv"
    rows = [[row.model, row.task, row.protocol, row.source, row.accuracy, row.active_params] for row in (DENSE, MOE)]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["model", "task", "protocol", "source", "accuracy", "active_params"], *rows])
    return path


def test_published_models_are_printed(run):
    result = run("--baselines", "vision", "--featured")
    assert result.exit_code == 0
    assert "efficientnet_b0.ra_in1k" in result.output
    assert max(map(len, result.output.splitlines())) <= 120


def test_sort_and_format_options(run, own_csv):
    rows = list(csv.DictReader(io.StringIO(run(own_csv, "--sort", "p3", "--format", "csv").output)))
    assert [row["model"] for row in rows] == ["sparse", "dense"]
    (group,) = json.loads(run(own_csv, "--format", "json").output)["groups"]
    assert [row["model"] for row in group["rows"]] == ["dense", "sparse"]
    assert "| **sparse**" not in run(own_csv, "--format", "md").output
    assert "| sparse |" in run(own_csv, "--format", "md").output


def test_runs_and_results_in_one_leaderboard(run, offline):
    import wandb

    from intensive_callbacks import WandbSink

    with wandb.init(project="p", mode="offline", dir=str(offline)) as logged:
        WandbSink(logged).log_table("final_benchmark", BenchmarkTable([OURS]))
    write(offline / "results")
    output = run(logged.settings.sync_dir, offline / "results", "--format", "csv").output
    assert [row["model"] for row in csv.DictReader(io.StringIO(output))] == ["ours", "org/tiny", "org/tiny"]


def test_compare_option_with_and_without_samples(run, tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", answers={task: [1.0] * 4 for task in ANSWERS})
    output = run(tmp_path / "a", tmp_path / "b", "--compare").output
    assert "examples: 0 only org/tiny (a) answered correctly, 3 only org/tiny (b) (McNemar p = 0.25)" in output
    assert "there are no per-example results of org/tiny (a), org/tiny (b)" in output


def test_compare_option_with_two_runs(run, offline):
    import wandb

    from intensive_callbacks import WandbSink

    folders = []
    for model, wrong in (("first", 10), ("second", 40)):  # of 100, the first ten of either
        row = dataclasses.replace(OURS, model=model, correct={place: place >= wrong for place in range(100)})
        with wandb.init(project="p", mode="offline", dir=str(offline), reinit="finish_previous") as logged:
            WandbSink(logged).log_table("final_benchmark", BenchmarkTable([row]))
        folders.append(logged.settings.sync_dir)
    output = run(*folders, "--compare").output
    assert "first against second on the same 100 examples: 30 only first answered correctly, 0 only second" in output
    assert "accuracy: first is better" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to show: name runs, results files or --baselines language"),
        (["--baselines", "audio"], "no baselines 'audio': give one of language"),
        (["--baselines", "vision", "--sort", "size"], "no metric has the key or symbol 'size'"),
        (["--baselines", "vision", "--compare"], "--compare needs two models"),
        (["nowhere"], "no final_benchmark table below nowhere"),
    ],
)
def test_failure_is_one_clear_line(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"leaderboard: {message}")
    assert "Traceback" not in result.output


def test_model_name_is_inert_in_csv(run, own_csv):
    text = own_csv.read_text(encoding="utf-8").replace("dense", "\"=cmd|' /C calc'!A0\"")
    own_csv.write_text(text, encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(run(own_csv, "--format", "csv").output)))
    assert rows[0]["model"] == "'=cmd|' /C calc'!A0"
    assert dataclasses.replace(MOE).model == rows[1]["model"]
