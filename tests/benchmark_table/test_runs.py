import dataclasses
import json
import re

import pytest

from benchmark_table.rows import MOE, OURS
from intensive_callbacks import BenchmarkTable, load_baselines
from intensive_callbacks.benchmark.runs import load_run, row_of_table
from intensive_callbacks.sinks.wandb import log_table

UNFINISHED = "files/media/table/final_benchmark_3_abc.table.json"


@pytest.fixture
def log(offline):
    import wandb

    def log_run(*rows):
        with wandb.init(project="p", mode="offline", dir=str(offline)) as run:
            log_table(run, BenchmarkTable(rows))
            return run.settings.sync_dir

    return log_run


def test_a_real_offline_run_gives_back_its_own_row(log):
    measured = {"intensive/config_entropy": 0.9, "routing/drop_rate/some": 0.25}
    row = dataclasses.replace(OURS, measured=measured, num_tokens=5e6)
    back = load_run(log(row, *load_baselines("vision")))
    assert back.measured == measured
    for field in dataclasses.fields(row):
        if field.name != "measured":
            value = getattr(row, field.name)
            assert getattr(back, field.name) == (pytest.approx(value) if isinstance(value, float) else value)


def test_a_folder_with_one_run_below_it_will_do_and_one_with_several_will_not(log, offline):
    log(OURS)
    assert load_run(offline).model == "ours"
    log(MOE)
    with pytest.raises(ValueError, match="holds 2 runs, name one of them"):
        load_run(offline)


def test_a_run_without_table_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"give the folder of a run .* that ended"):
        load_run(tmp_path)


def test_the_newest_of_several_tables_counts(tmp_path):
    for step, model in ((9, "old"), (10, "new")):
        table = BenchmarkTable([dataclasses.replace(MOE, model=model)])
        path = tmp_path / f"files/media/table/final_benchmark_{step}_abc.table.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"columns": table.columns, "data": table.rows()}), encoding="utf-8")
    assert load_run(tmp_path).model == "new"


def with_cell(title, value):
    table = BenchmarkTable([OURS])
    data = table.rows()
    data[0][table.columns.index(title)] = value
    return {"columns": table.columns, "data": data}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "is not a W&B table with columns and data"),
        ({"columns": ["model"], "data": []}, "is not a W&B table with columns and data"),
        ({"columns": ["model", "loss"], "data": [["a", 1]]}, "it lacks task, protocol, source, accuracy (fraction)"),
        (with_cell("accuracy (fraction)", 95), "accuracy must be a fraction in [0, 1], got 95"),
        (with_cell("accuracy (fraction)", "95 %"), "place: "),
        (with_cell("weights (GB)", -1.0), "place: num_bytes must be a finite number above 0, got -1"),
        (with_cell("weights (GB)", "1 GB"), "place: "),
    ],
)
def test_a_table_that_is_none_gets_a_clear_error(table, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        row_of_table(table, "place")


def test_a_damaged_table_gets_a_clear_error(tmp_path):
    path = tmp_path / UNFINISHED
    path.parent.mkdir(parents=True)
    path.write_text('{"columns": ["model"', encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        load_run(tmp_path)
