import dataclasses
import json
import math
import re

import pytest
import torch
from torchmetrics import Metric

from benchmark_table.rows import DENSE, MOE, OURS
from intensive_callbacks import BenchmarkTable, cards, load_baselines
from intensive_callbacks.benchmark.row import BenchmarkRow

GROUP = ("MMLU", "5-shot")


def value(table, model, column):
    row = next(row for row in table.rows() if row[0] == model)
    return row[table.columns.index(column)]


def cells(table, name, group):
    return table.grid.cells[group][table.grid.find(name)]


def test_comparable_values_follow_from_a_rows_figures():
    table = BenchmarkTable([MOE, DENSE, OURS])
    assert value(table, "sparse", "P3 (points per 1e9 params)") == pytest.approx(8.0)  # 80 / 10 active
    assert value(table, "sparse", "P2F (points per TFLOP)") is None  # nobody counted
    assert value(table, "sparse", "P2F (2N) (points per TFLOP)") == pytest.approx(4000)  # 80 / (2 x 10e9 / 1e12)
    assert value(table, "sparse", "2N FLOPs (GFLOP)") == 20
    assert value(table, "sparse", "MER (points per GB)") == pytest.approx(0.8)
    assert value(table, "sparse", "R3") == pytest.approx(0.1 * 3.2)
    assert value(table, "dense", "R3") == pytest.approx(3.6)
    assert value(table, "ours", "P2F (points per TFLOP)") == pytest.approx(95 / 4e-9)  # counted, per example
    assert value(table, "ours", "P2F (2N) (points per TFLOP)") is None
    assert value(table, "sparse", "total params (B)") == 100


def test_densities_against_published_values():
    bonsai = dataclasses.replace(MOE, accuracy=0.705, num_bytes=1.15e9)  # 1-bit Bonsai 8B whitepaper: 1.06
    assert value(BenchmarkTable([bonsai]), "sparse", "ID (nats per GB)") == pytest.approx(1.0615, abs=1e-4)
    # logit((0.62 - 0.25) / 0.75) = -1.039 + 0.464 ln(N / 1e9), over 10e9 parameters
    size = math.exp((math.log(0.37 / 0.38) + 1.039) / 0.464)
    reached = dataclasses.replace(MOE, accuracy=0.62)
    assert value(BenchmarkTable([reached]), "sparse", "CD") == pytest.approx(size / 10, rel=1e-6)
    beyond, elsewhere = BenchmarkTable([MOE]), BenchmarkTable([OURS])
    assert "outside those that the models of the reference" in cells(beyond, "CD", GROUP)[0].missing
    assert cells(elsewhere, "CD", OURS.group)[0].missing == "it has a meaning only on MMLU"


def test_counted_flops_are_those_shown_and_ranked():
    logged = 80 / 23e-3  # points per TFLOP
    counted = dataclasses.replace(MOE, num_flops=23e9, measured={"intensive/p2f_score": logged})
    table = BenchmarkTable([counted])
    assert value(table, "sparse", "FLOPs (GFLOP)") == 23
    assert value(table, "sparse", "P2F (points per TFLOP)") == pytest.approx(logged)
    assert not any(title.startswith("P2F measured") for title in table.columns)


def test_counts_and_estimates_of_flops_are_not_ranked_together():
    estimated = dataclasses.replace(MOE, model="estimated", accuracy=0.7)
    mixed = BenchmarkTable([dataclasses.replace(MOE, num_flops=23e9), estimated])
    alike = BenchmarkTable([MOE, estimated])
    of_flops = ("FLOPs", "P2F", "2N FLOPs", "P2F (2N)")
    assert [mixed.best(name, GROUP) for name in (*of_flops, "P3")] == [[], [], [], [], ["sparse"]]
    assert [alike.best(name, GROUP) for name in of_flops] == [[], [], ["sparse", "estimated"], ["sparse"]]
    assert cells(mixed, "P2F (2N)", GROUP)[0].missing == "FLOPs were counted"
    assert cells(mixed, "P2F", GROUP)[1].missing == "FLOPs were not counted"


def test_every_p2f_is_formed_of_the_flops_beside_it():
    for name in ("language", "vision"):
        table = BenchmarkTable(load_baselines(name))
        seen = 0
        for group, rows in table.groups.items():
            for flops, score in (("FLOPs", "P2F"), ("2N FLOPs", "P2F (2N)")):
                if name == "vision" and flops != "FLOPs":
                    continue
                for row, of, got in zip(rows, cells(table, flops, group), cells(table, score, group), strict=True):
                    assert math.isnan(of.value) == math.isnan(got.value)
                    seen += not math.isnan(of.value)
                    assert got.value == pytest.approx(100 * row.accuracy / (of.value / 1e12), nan_ok=True)
        assert seen == sum(map(len, table.groups.values()))
    assert not any("2N" in title for title in table.columns)  # each vision model was counted


def test_standard_errors_are_binomial_and_propagated():
    table = BenchmarkTable([MOE, DENSE])
    assert value(table, "sparse", "accuracy standard error") == pytest.approx(0.01)  # sqrt(0.8 x 0.2 / 1600)
    assert value(table, "dense", "accuracy standard error") is None
    errors = {symbol: cells(table, symbol, GROUP)[0].error for symbol in ("P3", "P2F (2N)", "MER", "R3")}
    assert errors == pytest.approx({"P3": 0.1, "P2F (2N)": 50, "MER": 0.01, "R3": 0.004})


def test_groups_are_never_ranked_together():
    other = dataclasses.replace(DENSE, protocol="0-shot", accuracy=0.99)
    table = BenchmarkTable([MOE, DENSE, other, OURS])
    assert table.best("accuracy", GROUP) == ["dense"]
    assert table.best("P3", GROUP) == ["sparse"]
    assert table.best("weights", GROUP) == ["sparse", "dense"]  # a tie names both
    assert table.best("R3", GROUP) == []  # no direction is better
    assert table.best("accuracy", ("MMLU", "0-shot")) == []  # nobody to be better than


def test_best_in_lists_the_columns_that_a_row_wins():
    table = BenchmarkTable([MOE, DENSE])
    assert value(table, "sparse", "best in") == "active params, weights, 2N FLOPs, P3, P2F (2N)"
    assert value(table, "dense", "best in") == "total params, weights, accuracy, MER, ID"


def test_sorting_best_first_undefined_last():
    unknown = dataclasses.replace(DENSE, model="unknown", active_params=None)
    table = BenchmarkTable([unknown, DENSE, MOE], sort="intensive/p3_score")
    assert [row[0] for row in table.rows()] == ["sparse", "dense", "unknown"]
    assert [row[0] for row in BenchmarkTable([MOE, DENSE], sort="total params").rows()] == ["dense", "sparse"]
    with pytest.raises(KeyError, match="no metric has the key or symbol 'size'"):
        BenchmarkTable([MOE], sort="size")


def test_undefined_cells_have_reasons():
    closed = dataclasses.replace(MOE, num_bytes=None, active_params=None, random_baseline=None)
    table = BenchmarkTable([closed, dataclasses.replace(MOE, model="no score", accuracy=math.nan)])
    missing = {
        column.key: [cell.missing for cell in of_column] for column, of_column in table.grid.cells[GROUP].items()
    }
    assert missing["intensive/memory_efficiency"] == ["bytes of the weights not given", "accuracy not given"]
    assert missing["intensive/p3_score"][0] == "active parameters not given"
    assert missing["intensive/relevance_rate"][0] == "accuracy of chance, active parameters not given"
    assert missing["total_params"] == ["", ""]
    assert value(table, "no score", "undefined") == (
        "FLOPs: FLOPs were not counted; accuracy, P3, P2F, P2F (2N), MER, R3, ID, CD: accuracy not given"
    )
    assert value(table, "sparse", "P3 (points per 1e9 params)") is None


def test_measured_columns_skip_repeats_of_comparable_values():
    table = BenchmarkTable([MOE, OURS])
    assert value(table, "ours", "CES measured (fraction)") == 0.9
    assert value(table, "sparse", "CES measured (fraction)") is None
    assert not any(title.startswith("P3 measured") for title in table.columns)  # 95 / 1e-6 either way
    differs = dataclasses.replace(OURS, measured={"intensive/p2f_score": 1.5})
    assert value(BenchmarkTable([differs]), "ours", "P2F measured (points per TFLOP)") == 1.5


def test_plain_rows_are_valid_wandb_cells():
    table = BenchmarkTable([MOE, DENSE, OURS])
    assert {len(row) for row in table.rows()} == {len(table.columns)}
    assert {type(cell) for row in table.rows() for cell in row} <= {str, float, int, type(None)}
    frame = table.to_dataframe()
    assert list(frame.columns) == table.columns
    assert frame.loc[0, "P3 (points per 1e9 params)"] == pytest.approx(8.0)


def test_metrics_argument():
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
def test_impossible_row_is_an_error(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(MOE, **change)


def test_row_with_required_fields_only():
    bare = BenchmarkRow(model="bare", task="t", protocol="p", source="s")
    (row,) = BenchmarkTable([bare]).rows()
    *given, record = [cell for cell in row if cell is not None]
    undefined = (
        "total params: total parameters not given; active params: active parameters not given; "
        "weights: bytes of the weights not given; FLOPs: FLOPs not given; "
        "accuracy, P3, P2F, MER, R3, ID, CD: accuracy not given"
    )
    assert given == ["bare", "t", "p", "token", "", undefined, "s"]
    assert json.loads(record) == {"model": "bare", "task": "t", "protocol": "p", "source": "s"}


class Watts(Metric):
    def update(self, accuracy):
        pass

    def compute(self):
        return torch.tensor(0.0)


def test_registered_card_has_a_measured_column_only(monkeypatch):
    monkeypatch.setattr(cards, "CARDS", cards.CARDS)
    monkeypatch.setattr(cards, "_REGISTERED", {})
    own = dataclasses.replace(cards.card("P3"), key="mine/watts", symbol="watts", unit="W", better="lower", metric=None)
    cards.register_card(own, Watts)
    rows = [dataclasses.replace(MOE, measured={"mine/watts": 300.0}), dataclasses.replace(DENSE, measured={})]
    rows += [dataclasses.replace(DENSE, model="cooler", measured={"mine/watts": 200.0})]
    table = BenchmarkTable(rows, sort="watts")
    assert value(table, "sparse", "watts measured (W)") == 300
    assert [row[0] for row in table.rows()] == ["cooler", "sparse", "dense"]
    assert table.best("mine/watts", GROUP) == ["cooler"]
    with pytest.raises(ValueError, match=r"watts \(mine/watts\) has no function of a row's figures"):
        BenchmarkTable(rows, metrics=["watts"])


def test_measured_keys_without_a_card_keep_their_key():
    row = dataclasses.replace(OURS, measured={"CES": 1.0, "intensive/config_entropy": 2.0, "loss": 3.0})
    table = BenchmarkTable([row])
    assert value(table, "ours", "CES measured") == 1.0
    assert value(table, "ours", "intensive/config_entropy measured (fraction)") == 2.0
    assert value(table, "ours", "loss measured") == 3.0
    assert [column.key for column in table.grid.columns if column.measured] == [
        "intensive/config_entropy",
        "CES",
        "loss",
    ]
