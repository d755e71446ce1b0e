import dataclasses
import math
import re
from pathlib import Path

import pytest

from benchmark_table.rows import DENSE, MOE, OURS
from intensive_callbacks import BenchmarkTable, benchmark
from intensive_callbacks.benchmark.grid import Cell, Column, Grid

GROUP = ("t", "p")


def column(key="k", better="higher", **options):
    return Column(key, options.pop("title", key), better, lambda row: Cell(row.measured.get(key, math.nan)), **options)


def rows(*values, key="k", group=GROUP):
    names = "abcdefgh"
    return [
        dataclasses.replace(MOE, model=names[i], task=group[0], protocol=group[1], measured={key: value})
        for i, value in enumerate(values)
    ]


def models(grid, group=GROUP):
    return [row.model for row in grid.groups[group]]


@pytest.mark.parametrize(
    ("better", "values", "expected"),
    [
        ("higher", (1.0, 3.0, 2.0), {1}),
        ("lower", (1.0, 3.0, 2.0), {0}),
        ("neither", (1.0, 3.0, 2.0), set()),
        ("higher", (3.0, 1.0, 3.0), {0, 2}),
        ("lower", (2.0, 2.0), {0, 1}),
        ("higher", (math.nan, 1.0, 2.0), {2}),
        ("higher", (math.nan, 1.0), set()),  # nothing to be better than
        ("higher", (math.nan, math.nan), set()),
        ("higher", (1.0,), set()),
        ("higher", (math.inf, 1.0), {0}),
        ("lower", (-math.inf, math.nan, 1.0), {0}),
    ],
)
def test_best_of_a_group(better, values, expected):
    only = column(better=better)
    assert Grid(rows(*values), [only]).best(GROUP, only) == expected


def test_each_group_has_its_own_best():
    only = column()
    grid = Grid([*rows(1.0, 2.0), *rows(9.0, 5.0, group=("t", "other"))], [only])
    assert list(grid.groups) == [GROUP, ("t", "other")]
    assert grid.best(GROUP, only) == {1}
    assert grid.best(("t", "other"), only) == {0}


@pytest.mark.parametrize(
    ("better", "expected"), [("higher", ["b", "d", "a", "c"]), ("lower", ["a", "b", "d", "c"]), ("neither", "bdac")]
)
def test_sort_is_stable_and_puts_nan_last(better, expected):
    only, other = column(better=better), column("other")
    grid = Grid(rows(1.0, 2.0, math.nan, 2.0), [only, other])
    grid.sort(only)
    assert models(grid) == list(expected)
    values = {"a": 1.0, "b": 2.0, "c": math.nan, "d": 2.0}
    assert str([cell.value for cell in grid.cells[GROUP][only]]) == str([values[model] for model in expected])
    assert len(grid.cells[GROUP][other]) == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("intensive/p3_score", 0),
        ("P3", 0),
        ("p3", 0),
        ("P3 measured", 1),
        ("intensive/config_entropy", 2),
        ("ces", 2),
        ("CES measured", 2),
        ("total params", 3),
        ("total_params", 3),
        ("params", 3),  # the symbol of its card
        ("baseline/total_params", 3),
        ("baseline/flops_per_token", 4),
        ("mine", 5),
    ],
)
def test_column_by_key_symbol_or_title(name, expected):
    columns = [
        column("intensive/p3_score", title="P3"),
        column("intensive/p3_score", title="P3", measured=True),
        column("intensive/config_entropy", title="CES", measured=True),
        column("total_params", title="total params"),
        column("num_flops", title="FLOPs"),
        column("mine", measured=True),
    ]
    assert Grid([], columns).find(name) is columns[expected]


def test_unknown_column_is_an_error_that_lists_the_columns():
    grid = Grid([], [column("total_params", title="total params"), column("mine", measured=True)])
    with pytest.raises(KeyError, match=r"no column 'MER'; it has total params, mine measured"):
        grid.find("MER")
    with pytest.raises(KeyError, match="no metric has the key or symbol 'size'"):
        grid.find("size")


ORDER = ("row", "files", "grid", "records", "misnomer", "columns", "layout", "printers", "table")


@pytest.mark.parametrize("part", ORDER)
def test_arrows_from_the_table_down_to_the_grid(part):
    folder = Path(benchmark.__file__).parent
    files = [folder / f"{part}.py"] if part != "printers" else list((folder / part).glob("*.py"))
    imported = {
        name for file in files for name in re.findall(r"from intensive_callbacks\.benchmark\.(\w+)", file.read_text())
    }
    assert imported <= {*ORDER[: ORDER.index(part)], part}


def test_cells_hold_base_units():
    grid = BenchmarkTable([MOE, DENSE, OURS]).grid
    (params,) = grid.cells[OURS.group][grid.find("total_params")]
    assert params.value == 2000
    (flops, _) = grid.cells[MOE.group][grid.find("analytic_flops")]
    assert flops.value == 20e9
