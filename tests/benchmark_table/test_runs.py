import dataclasses
import json
import math
import re

import pytest

from benchmark_table.rows import MOE, OURS
from intensive_callbacks import BenchmarkTable, WandbSink, load_baselines
from intensive_callbacks.benchmark.runs import load_run, row_of_table

UNFINISHED = "files/media/table/final_benchmark_3_abc.table.json"


@pytest.fixture
def log(offline):
    import wandb

    def log_run(*rows):
        with wandb.init(project="p", mode="offline", dir=str(offline)) as run:
            WandbSink(run).log_table("final_benchmark", BenchmarkTable(rows))
            return run.settings.sync_dir

    return log_run


MEASURED = {
    "intensive/config_entropy": 1 / 3,
    "intensive/p3_score": 95e6,  # as the comparable column has it
    "routing/load_cv2_worst": 0.25,
    "mine/without_card": -2.5,
    "intensive/query_coupling": math.inf,
}
ERRORS = {"intensive/config_entropy": 0.01, "intensive/p3_score": 1.1e6, "mine/without_card": 0.5}


def test_offline_run_reads_back_its_own_row(log):
    row = dataclasses.replace(OURS, measured=MEASURED, measured_errors=ERRORS, num_tokens=5e6)
    row = dataclasses.replace(row, total_params=2000 / 3, active_params=100 / 3)
    assert load_run(log(row, *load_baselines("vision"))) == row


@pytest.mark.parametrize("number", [1, 7, 8, 1000])
def test_results_of_each_example_are_read_back(log, number):
    row = dataclasses.replace(OURS, correct={place: place % 3 > 0 for place in range(number)})
    assert load_run(log(row, MOE)) == row


def test_results_with_names_of_their_own_are_left_out(log):
    row = dataclasses.replace(OURS, correct={("task", "1"): True, ("task", "2"): False})
    assert load_run(log(row)) == dataclasses.replace(row, correct=None)


@pytest.mark.parametrize(
    ("correct", "says"),
    [
        (3, "must have num_examples"),
        ({"num_examples": 0, "right": ""}, "must have num_examples"),
        ({"num_examples": True, "right": "gA=="}, "must have num_examples"),
        ({"num_examples": 10**9, "right": "gA=="}, "must have num_examples of 1 to 1,000,000"),
        ({"num_examples": 9, "right": "gA=="}, "has 1 bytes, expected 2 for 9 examples"),
        ({"num_examples": 3, "right": "?"}, "in base64"),
        ({"num_examples": 3}, "in base64"),
    ],
)
def test_results_that_cannot_be_are_refused(correct, says):
    record = {"model": "m", "task": "t", "protocol": "p", "source": "s", "correct": correct}
    with pytest.raises(ValueError, match=says):
        row_of_table(with_record(record), "place")


def test_values_errors_and_titles_in_the_logged_table():
    row = dataclasses.replace(OURS, measured=MEASURED, measured_errors=ERRORS)
    table = BenchmarkTable([row, MOE])
    cells = dict(zip(table.columns, table.rows()[0], strict=True))
    assert len(table.columns) == len(set(table.columns))
    assert cells["CES measured (fraction)"] == 1 / 3
    assert cells["± CES measured"] == 0.01
    assert cells["CV² worst layer measured"] == 0.25
    assert cells["mine/without_card measured"] == -2.5
    assert cells["± mine/without_card measured"] == 0.5
    assert cells["± P3"] == pytest.approx(100 * math.sqrt(0.95 * 0.05 / 400) / 1e-6)
    assert cells["QC3 measured"] is None
    assert "± total params" not in cells


# A table as it was logged before each row had a record.
TITLED = {
    "model": "ours",
    "task": "digits",
    "protocol": "test split",
    "total params (B)": 2e-06,
    "active params (B)": 1e-06,
    "weights (GB)": 8e-06,
    "FLOPs (GFLOP)": 4e-06,
    "accuracy (fraction)": 0.95,
    "P3 (points per 1e9 params)": 95000000.0,
    "CES measured (fraction)": 0.9,
    "routing/drop_rate/some measured": 0.25,
    "QC3 measured": None,
    "accuracy standard error": 0.010897247358851688,
    "examples": 400,
    "accuracy of chance": 0.1,
    "training tokens": None,
    "FLOPs per": "example",
    "best in": "",
    "source": "measured here",
}


def titled(**changed):
    cells = {**TITLED, **changed}
    return {"columns": list(cells), "data": [list(cells.values())]}


def test_table_without_records_is_read_by_its_titles():
    back = row_of_table(titled(), "place")
    assert back.measured == {"intensive/config_entropy": 0.9, "routing/drop_rate/some": 0.25}
    for field in dataclasses.fields(OURS):
        if field.name != "measured":
            value = getattr(OURS, field.name)
            assert getattr(back, field.name) == (pytest.approx(value) if isinstance(value, float) else value)
    assert math.isnan(row_of_table(titled(**{"accuracy (fraction)": None}), "place").accuracy)
    # Those tables had an estimate where tokens are counted.
    assert row_of_table(titled(**{"FLOPs per": "token"}), "place").num_flops is None


def test_folder_must_hold_exactly_one_run(log, offline):
    log(OURS)
    assert load_run(offline).model == "ours"
    log(MOE)
    with pytest.raises(ValueError, match="holds 2 runs, name one of them"):
        load_run(offline)


def test_run_without_table_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"give the folder of a run .* that ended"):
        load_run(tmp_path)


def test_newest_of_several_tables_is_read(tmp_path):
    for step, model in ((9, "old"), (10, "new")):
        table = BenchmarkTable([dataclasses.replace(MOE, model=model)])
        path = tmp_path / f"files/media/table/final_benchmark_{step}_abc.table.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"columns": table.columns, "data": table.rows()}), encoding="utf-8")
    assert load_run(tmp_path).model == "new"


def with_cell(title, value):
    return titled(**{title: value})


def with_record(record):
    return titled(record=record if isinstance(record, str) else json.dumps(record))


NAMES = {"model": "m", "task": "t", "protocol": "p", "source": "s"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "is not a W&B table with columns and data"),
        ({"columns": ["model"], "data": []}, "is not a W&B table with columns and data"),
        ({"columns": ["model", "loss"], "data": [["a", 1]]}, "it lacks task, protocol, source, accuracy (fraction)"),
        (with_cell("accuracy (fraction)", 95), "accuracy must be a fraction in [0, 1], got 95"),
        (with_cell("accuracy (fraction)", "95 %"), "place: "),
        (with_cell("weights (GB)", -1.0), "place: num_bytes must be a finite number above 0, got -1"),
        (with_cell("weights (GB)", "1 GB"), "place: weights (GB) must be a number, got '1 GB'"),
        (titled(record=None), "place: expected the record as a line of JSON, got NoneType"),
        (with_record("{"), "place: the record is not JSON"),
        (with_record("[" * 100_000), "place: the record is not JSON"),
        (with_record([1]), "place: expected the record as an object, got list"),
        (with_record({"model": "m"}), "place: the record lacks task, protocol, source"),
        (with_record({**NAMES, "accuracy": 95}), "place: accuracy must be a fraction in [0, 1], got 95"),
        (with_record({**NAMES, "num_bytes": True}), "place: num_bytes must be a number, got True"),
        (with_record({**NAMES, "num_bytes": 10**400}), "place: "),
        (with_record({**NAMES, "per": "image"}), "place: per must be 'token' or 'example'"),
        (with_record({**NAMES, "measured": 5}), "place: measured must be numbers by key, got 5"),
        (with_record({**NAMES, "measured": {"k": "high"}}), "place: k must be a number, got 'high'"),
    ],
)
def test_invalid_table_is_a_clear_error(table, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        row_of_table(table, "place")


def test_damaged_table_is_a_clear_error(tmp_path):
    path = tmp_path / UNFINISHED
    path.parent.mkdir(parents=True)
    path.write_text('{"columns": ["model"', encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        load_run(tmp_path)
