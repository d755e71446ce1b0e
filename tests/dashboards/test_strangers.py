"""Offline runs that a stranger wrote: their tables, names and sizes."""

import json
import os

import pytest

from intensive_callbacks.dashboards import RunRecord, charts_of, page, read_run
from intensive_callbacks.dashboards.fitting import fitted
from intensive_callbacks.dashboards.runs import given_name

COLUMNS = ["run", "step", "layer", "expert", "load"]


@pytest.fixture
def stranger(offline):
    """An offline run whose history names any path as that of the heatmap's table."""
    import wandb

    def write(path, name=None):
        run = wandb.init(project="p", name=name)
        run.log({"intensive/p3_score": 1.0, "routing_heatmap_table.path": path, "trainer/global_step": 5})
        folder = run.settings.sync_dir
        run.finish()
        wandb.teardown()
        return folder

    return write


def record(*items):
    read = RunRecord("folder")
    for item in items:
        read.add(item)
    return read


def history(**item):
    return {"type": "history", "history": {"item": item}}


@pytest.mark.parametrize("path", [5, None, ["a"], "\0", "missing.json", "pipe", "..", "a" * 5000])
def test_a_table_that_cannot_be_read_is_a_note(stranger, path):
    folder = stranger(path)
    os.mkfifo(f"{folder}/files/pipe")
    run = read_run(folder)
    assert run.tables == {}
    assert any("routing_heatmap_table could not be read" in note for note in run.notes)
    assert [chart.name for chart in charts_of([run])] == ["overview"]


def test_a_table_outside_of_the_run_is_not_read(stranger, tmp_path):
    private = tmp_path / "private.json"
    private.write_text(json.dumps({"columns": COLUMNS, "data": [["r", 1, "secret", 0, 1.0]]}), encoding="utf-8")
    run = read_run(stranger(str(private)))
    assert run.tables == {}
    assert any("lies outside" in note for note in run.notes)


@pytest.mark.parametrize(
    "entry", [None, 5, [], {}, {"type": []}, {"type": "run", "run": 3}, {"type": "history", "history": {"item": [1]}}]
)
def test_records_of_another_form_are_passed_over(entry):
    try:
        read = record(entry)
    except TypeError:
        pytest.fail("a record of another form raised")
    assert (read.name, read.rows, read.tables) == ("folder", [], {})


def test_values_that_no_chart_can_show_are_left_out():
    good = {"trainer/global_step": 3, "intensive/p3_score": 1.0}
    odd = {"intensive/a": 10**400, "intensive/b": float("nan"), "intensive/c": True, "intensive/d": "1"}
    assert record(history(**good, **odd)).rows == [{"step": 3, "intensive/p3_score": 1.0}]
    assert record(history(**{**good, "trainer/global_step": 10**400})).rows == []
    assert record(history(**good, **{"intensive/" + "k" * 300: 1.0})).rows[0].keys() == {"step", "intensive/p3_score"}


def test_prefix_of_the_logger_is_taken_off():
    prefixed = history(**{"mine-trainer/global_step": 3, "mine-intensive/p3_score": 1.0, "mine-loss": 2.0, "_step": 9})
    assert record(prefixed).rows == [{"step": 3, "intensive/p3_score": 1.0}]
    entry = history(**{"a-b-final_benchmark.path": "t.json"})
    assert RunRecord("r").add(entry) == {"final_benchmark": "t.json"}


def test_names_are_short_and_drive_no_terminal():
    assert (
        record({"type": "run", "run": {"display_name": "\x1b[31m" + "A" * 100_000}}).name
        == " [31m".strip() + "A" * 194 + "…"
    )
    assert record({"type": "run", "run": {"display_name": 5}}).name == "5"


def test_the_name_that_its_user_gave_a_run(stranger, tmp_path):
    assert given_name(stranger("x", name="mine")) == "mine"
    assert given_name(tmp_path / "nowhere") == ""


def test_a_page_stays_small_whatever_a_run_holds():
    rows = [{"step": step, **{f"routing/{'k' * 150}{n}": float(step) for n in range(100)}} for step in range(300)]
    heat = [
        dict(zip(COLUMNS, ["r", s, "L" * 200, e, 1.0], strict=True)) | {"extra": "x" * 900}
        for s in range(100)
        for e in range(64)
    ]
    text = page(charts_of([RunRecord("A" * 200, rows, {"routing_heatmap_table": heat})]), "title")
    assert len(text.encode()) < 1_500_000
    assert "rows are drawn, so that the page stays small" in text


def test_thinned_charts_keep_ends_spikes_and_whole_steps():
    points = [{"run": "r", "metric": "m", "step": s, "value": 9.0 if s == 500 else 0.0} for s in range(1000)]
    heat = [{"run": "r", "step": s, "layer": "l", "expert": e, "load": 1.0} for s in range(100) for e in range(8)]
    (line, tiles), notes = fitted([("overview", points), ("heatmap", heat)], 20_000)
    assert {0, 500, 999} <= {row["step"] for row in line}
    counts = [sum(row["step"] == step for row in tiles) for step in {row["step"] for row in tiles}]
    assert len(counts) > 1
    assert max(counts) == 8
    assert len(notes) == 2
    assert fitted([("overview", points)], 10**6) == ([points], [])
