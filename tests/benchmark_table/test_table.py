import dataclasses
import math
import re

import pytest

from benchmark_table.rows import DENSE, MOE, OURS
from intensive_callbacks import BenchmarkTable
from intensive_callbacks.benchmark.row import BenchmarkRow

GROUP = ("MMLU", "5-shot")


def value(table, model, column):
    row = next(row for row in table.rows() if row[0] == model)
    return row[table.columns.index(column)]


def test_comparable_values_are_formed_by_one_convention_from_the_figures_of_a_row():
    table = BenchmarkTable([MOE, DENSE, OURS])
    assert value(table, "sparse", "P3 (points per 1e9 params)") == pytest.approx(8.0)  # 80 / 10 active
    assert value(table, "sparse", "P2F (points per TFLOP)") == pytest.approx(4000)  # 80 / (2 x 10e9 / 1e12)
    assert value(table, "sparse", "MER (points per GB)") == pytest.approx(0.8)
    assert value(table, "sparse", "R3") == pytest.approx(0.1 * 3.2)
    assert value(table, "dense", "R3") == pytest.approx(3.6)
    assert value(table, "ours", "P2F (points per TFLOP)") == pytest.approx(95 / 4e-9)  # counted, per example
    assert value(table, "sparse", "total params (B)") == 100


def test_densities_and_where_they_have_a_meaning():
    bonsai = dataclasses.replace(MOE, accuracy=0.705, num_bytes=1.15e9)  # 1-bit Bonsai 8B whitepaper: 1.06
    assert value(BenchmarkTable([bonsai]), "sparse", "ID (nats per GB)") == pytest.approx(1.0615, abs=1e-4)
    # logit((0.62 - 0.25) / 0.75) = -1.039 + 0.464 ln(N / 1e9), over 10e9 parameters
    size = math.exp((math.log(0.37 / 0.38) + 1.039) / 0.464)
    reached = dataclasses.replace(MOE, accuracy=0.62)
    assert value(BenchmarkTable([reached]), "sparse", "CD") == pytest.approx(size / 10, rel=1e-6)
    beyond, elsewhere = BenchmarkTable([MOE]), BenchmarkTable([OURS])
    place = [column.title for column in beyond.numbers].index("CD")
    assert "outside those that the models of the reference" in beyond.cells[GROUP][place][0].missing
    assert elsewhere.cells[OURS.group][place][0].missing == "it has a meaning only on MMLU"


def test_known_flops_per_token_do_not_change_the_comparable_column():
    counted = dataclasses.replace(MOE, num_flops=23e9)
    assert BenchmarkTable([counted]).rows() == BenchmarkTable([MOE]).rows()


def test_standard_errors_are_binomial_and_scale_with_the_metric():
    table = BenchmarkTable([MOE, DENSE])
    assert value(table, "sparse", "accuracy standard error") == pytest.approx(0.01)  # sqrt(0.8 x 0.2 / 1600)
    assert value(table, "dense", "accuracy standard error") is None
    titles = [column.title for column in table.numbers]
    errors = {title: table.cells[GROUP][titles.index(title)][0].error for title in ("P3", "P2F", "MER", "R3")}
    assert errors == pytest.approx({"P3": 0.1, "P2F": 50, "MER": 0.01, "R3": 0.004})


def test_rows_of_another_task_or_protocol_are_never_ranked_together():
    other = dataclasses.replace(DENSE, protocol="0-shot", accuracy=0.99)
    table = BenchmarkTable([MOE, DENSE, other, OURS])
    assert table.best("accuracy", GROUP) == ["dense"]
    assert table.best("P3", GROUP) == ["sparse"]
    assert table.best("weights", GROUP) == ["sparse", "dense"]  # a tie names both
    assert table.best("R3", GROUP) == []  # no direction is better
    assert table.best("accuracy", ("MMLU", "0-shot")) == []  # nobody to be better than


def test_the_winner_of_a_column_is_named_in_plain_rows():
    table = BenchmarkTable([MOE, DENSE])
    assert value(table, "sparse", "best in") == "active params, weights, FLOPs, P3, P2F"
    assert value(table, "dense", "best in") == "total params, weights, accuracy, MER, ID"


def test_sorting_puts_the_best_of_each_group_first_and_the_undefined_last():
    unknown = dataclasses.replace(DENSE, model="unknown", active_params=None)
    table = BenchmarkTable([unknown, DENSE, MOE], sort="intensive/p3_score")
    assert [row[0] for row in table.rows()] == ["sparse", "dense", "unknown"]
    assert [row[0] for row in BenchmarkTable([MOE, DENSE], sort="total params").rows()] == ["dense", "sparse"]
    with pytest.raises(KeyError, match="no metric has the key or symbol 'size'"):
        BenchmarkTable([MOE], sort="size")


def test_what_is_undefined_has_a_reason():
    closed = dataclasses.replace(MOE, num_bytes=None, active_params=None, random_baseline=None)
    table = BenchmarkTable([closed, dataclasses.replace(MOE, model="no score", accuracy=math.nan)])
    titles = [column.title for column in table.numbers]
    missing = {title: [cell.missing for cell in cells] for title, cells in zip(titles, table.cells[GROUP], strict=True)}
    assert missing["MER"] == ["bytes of the weights not given", "accuracy not given"]
    assert missing["P3"][0] == "active parameters not given"
    assert missing["R3"][0] == "accuracy of chance, active parameters not given"
    assert missing["total params"] == ["", ""]
    assert value(table, "sparse", "P3 (points per 1e9 params)") is None


def test_measured_values_stand_in_columns_of_their_own_unless_they_repeat_a_comparable_one():
    table = BenchmarkTable([MOE, OURS])
    assert value(table, "ours", "CES measured (fraction)") == 0.9
    assert value(table, "sparse", "CES measured (fraction)") is None
    assert not any(title.startswith("P3 measured") for title in table.columns)  # 95 / 1e-6 either way
    differs = dataclasses.replace(OURS, measured={"intensive/p2f_score": 1.5})
    assert value(BenchmarkTable([differs]), "ours", "P2F measured (points per TFLOP)") == 1.5


def test_plain_rows_are_what_a_table_of_wandb_takes():
    table = BenchmarkTable([MOE, DENSE, OURS])
    assert {len(row) for row in table.rows()} == {len(table.columns)}
    assert {type(cell) for row in table.rows() for cell in row} <= {str, float, int, type(None)}
    frame = table.to_dataframe()
    assert list(frame.columns) == table.columns
    assert frame.loc[0, "P3 (points per 1e9 params)"] == pytest.approx(8.0)


def test_metrics_on_request():
    assert "P3 (points per 1e9 params)" not in BenchmarkTable([MOE], metrics=["MER"]).columns
    with pytest.raises(ValueError, match="CES does not follow from a row's figures: it needs expert_ids, num_experts"):
        BenchmarkTable([MOE], metrics=["CES"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 87.1}, "accuracy must be a fraction in [0, 1], got 87.1; divide percent by 100"),
        ({"active_params": 101e9}, "active_params must be at most total_params"),
        ({"num_bytes": 0}, "num_bytes must be a finite number above 0"),
        ({"num_flops": math.inf}, "num_flops must be a finite number above 0"),
        ({"random_baseline": 25}, "random_baseline must be a fraction in (0, 1)"),
        ({"per": "image"}, "per must be 'token' or 'example'"),
    ],
)
def test_a_row_that_cannot_be_true_is_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(MOE, **change)


def test_a_row_needs_little():
    bare = BenchmarkRow(model="bare", task="t", protocol="p", source="s")
    (row,) = BenchmarkTable([bare]).rows()
    assert [cell for cell in row if cell is not None] == ["bare", "t", "p", "token", "", "s"]
