"""What a printer writes holds the value, standard error, reason and unit of every key."""

import csv
import dataclasses
import io
import json
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmark_table.rows import DENSE, MOE, OURS
from intensive_callbacks import BenchmarkTable, cards, load_baselines
from intensive_callbacks.benchmark.records import as_record, row_of_text
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.benchmark.runs import row_of_table

ROW = dataclasses.replace(
    OURS,
    measured={
        "intensive/config_entropy": 1 / 3,
        "intensive/config_entropy_worst": 0.125,
        "routing/specialization": 1.5,
        "mine/own": -7.25e-7,
        "cost/tokens_per_second": 123456.0,
        "intensive/query_coupling": math.nan,
    },
    measured_errors={"intensive/config_entropy": 0.0123, "mine/own": 3e-8},
)
# By hand: key -> (value, standard error or None, unit, title); the error of the accuracy is sqrt(.95 x .05 / 400).
ERROR = math.sqrt(0.95 * 0.05 / 400)
EXPECTED = {
    "total_params": (2000, None, "1", "total params"),
    "num_bytes": (8000, None, "B", "weights"),
    "num_flops": (4000, None, "FLOP", "FLOPs"),
    "accuracy": (0.95, ERROR, "fraction", "accuracy"),
    "intensive/p3_score": (95 / 1e-6, 100 * ERROR / 1e-6, "points per 1e9 params", "P3"),
    "intensive/memory_efficiency": (95 / 8e-6, 100 * ERROR / 8e-6, "points per GB", "MER"),
    "intensive/relevance_rate": (0.5 * 9.5, 0.5 * ERROR / 0.1, "1", "R3"),
    "intensive/config_entropy": (1 / 3, 0.0123, "fraction", "CES"),
    "intensive/config_entropy_worst": (0.125, None, "fraction", "CES worst layer"),
    "routing/specialization": (1.5, None, "bit", "I(token;E)"),
    "mine/own": (-7.25e-7, 3e-8, "1", "mine/own"),
    "cost/tokens_per_second": (123456.0, None, "tokens per second", "tokens/s"),
}
REASONS = {
    "intensive/capability_density": "it has a meaning only on MMLU",
    "intensive/query_coupling": "undefined",
}


def test_json_has_each_key():
    content = json.loads(BenchmarkTable([ROW]).to_json())
    (row,) = content["groups"][0]["rows"]
    cells = row["cells"] | row["measured"]
    for key, (value, error, unit, title) in EXPECTED.items():
        assert cells[key]["value"] == pytest.approx(value, rel=1e-12)
        assert cells[key].get("standard_error") == (error and pytest.approx(error, rel=1e-9))
        assert content["columns"][key] == {"title": title, "unit": unit}
    assert {key: cell["missing"] for key, cell in cells.items() if cell["value"] is None} == REASONS


def flat_cells(titles, cells):
    return dict(zip(titles, cells, strict=True))


def check_flat(cells):
    """The titled cells of a row: sizes in billions, a title with its unit, ± beside each score."""
    for key, (value, error, unit, title) in EXPECTED.items():
        shown = {"total_params": "B", "num_bytes": "GB", "num_flops": "GFLOP"}.get(key, unit)
        measured = " measured" if key in ROW.measured else ""
        factor = 1e9 if key in ("total_params", "num_bytes", "num_flops") else 1
        found = cells[f"{title}{measured}" + (f" ({shown})" if shown != "1" else "")]
        assert float(found) == pytest.approx(value / factor, rel=1e-12)
        if error is not None:
            name = "accuracy standard error" if key == "accuracy" else f"± {title}{measured}"
            assert float(cells[name]) == pytest.approx(error, rel=1e-9)
        else:
            assert f"± {title}{measured}" not in cells
    assert cells["undefined"] == "CD: it has a meaning only on MMLU; QC3 measured: undefined"
    assert as_record(row_of_text(cells["record"], "record")) == as_record(ROW)


def test_csv_data_frame_and_wandb_rows_have_each_key():
    table = BenchmarkTable([ROW])
    titles, cells = csv.reader(io.StringIO(table.to_csv()))
    check_flat({title: cell for title, cell in flat_cells(titles, cells).items() if cell})
    check_flat(table.to_dataframe().iloc[0].to_dict())
    check_flat(flat_cells(table.columns, table.rows()[0]))


def digits(text):
    """A printed number such as ``12.3k`` or ``95.0%``."""
    number, suffix = re.fullmatch(r"(-?[\d.]+(?:e-?\d+)?)([kMGTB%]?)", text).groups()
    return float(number) * {"": 1, "%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}[suffix]


def check_printed(cells, key):
    """A printed value has three digits or more, its error two."""
    value, error, _, _ = EXPECTED[key]
    shown, _, shown_error = cells.partition(" ±")
    assert digits(shown) == pytest.approx(value, rel=5e-3)
    if error is None:
        assert not shown_error
    else:
        scale = 0.01 if key == "accuracy" else 1
        assert digits(shown_error) * scale == pytest.approx(error, rel=5e-2)


HEADINGS = {
    "total params": "total_params",
    "weights bytes": "num_bytes",
    "FLOPs per example": "num_flops",
    "accuracy": "accuracy",
    "P3": "intensive/p3_score",
    "MER": "intensive/memory_efficiency",
    "R3": "intensive/relevance_rate",
}


def test_markdown_shows_each_key():
    text = BenchmarkTable([ROW, dataclasses.replace(ROW, model="other", num_bytes=None)]).to_markdown()
    lines = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    scores = flat_cells(lines[0], lines[2])
    for title, key in HEADINGS.items():
        check_printed(scores[title], key)
    measured = {line[0].replace("\\", ""): line for line in lines[4:]}
    for key in ROW.measured:
        if key in EXPECTED:
            _, _, unit, title = EXPECTED[key]
            assert measured[title][1] == unit
            check_printed(measured[title][2], key)
    assert measured["QC3"][2] == "—"
    assert "- — weights, MER, ID: bytes of the weights not given" in text
    assert "- — QC3 measured: undefined" in text
    assert "P3 points per 1e9 params" in text.splitlines()[-1]


def test_terminal_shows_each_key():
    console = Console(width=300, file=io.StringIO(), color_system=None)
    console.print(BenchmarkTable([ROW]))
    lines = console.file.getvalue().splitlines()
    (scores,) = (re.split(r"\s{2,}", line.strip())[1:] for line in lines if line.startswith("ours"))
    order = ("total_params", None, "num_bytes", "num_flops", "accuracy", "intensive/p3_score", None)
    for cells, key in zip(scores, (*order, "intensive/memory_efficiency", "intensive/relevance_rate"), strict=False):
        if key is not None:
            check_printed(cells, key)
    for key in ROW.measured:
        if key in EXPECTED:
            _, _, unit, title = EXPECTED[key]
            (line,) = (re.split(r"\s{2,}", line.strip()) for line in lines if line.startswith(f"{title}  "))
            check_printed(line[1], key)
            assert line[2:] == ([] if unit == "1" else [unit])
    assert any(line.startswith("— QC3 measured: undefined") for line in lines)


TEXT = st.text(min_size=1, max_size=8)
NUMBER = st.none() | st.floats(min_value=1e-3, max_value=1e300) | st.integers(1, 10**20)
BY_KEY = st.dictionaries(
    st.sampled_from([card.key for card in cards.CARDS] + ["CES", "record", "intensive/config_entropy_worst"]) | TEXT,
    st.floats() | st.integers(-(10**9), 10**9),
    max_size=4,
)
ROWS = st.builds(
    BenchmarkRow,
    model=TEXT,
    task=st.sampled_from(["MMLU", "t", "=1+1"]),
    protocol=TEXT,
    source=TEXT,
    accuracy=st.just(math.nan) | st.floats(0, 1),
    total_params=st.none() | st.floats(1e10, 1e12),
    active_params=st.none() | st.floats(1e-3, 1e10),
    num_bytes=NUMBER,
    num_flops=NUMBER,
    per=st.sampled_from(["token", "example"]),
    num_examples=st.none() | st.integers(1, 10**6),
    num_tokens=NUMBER,
    random_baseline=st.none() | st.floats(0.001, 0.999),
    measured=BY_KEY,
    measured_errors=BY_KEY,
    featured=st.booleans(),
)


def cells_by_key(table):
    return [
        (group, column.key, column.measured, [str(cell) for cell in cells])
        for group, by_column in table.grid.cells.items()
        for column, cells in by_column.items()
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROWS, min_size=1, max_size=4))
def test_any_table_is_read_back_exactly(tmp_path, rows):
    table = BenchmarkTable(rows)
    written = [as_record(row) for members in table.groups.values() for row in members]
    table.to_json(tmp_path / "table.json")
    table.to_csv(tmp_path / "table.csv")
    for path in ("table.json", "table.csv"):
        back = load_baselines(tmp_path / path)
        assert [as_record(row) for row in back] == written
        assert cells_by_key(BenchmarkTable(back)) == cells_by_key(table)
    frame = table.to_dataframe()
    assert [as_record(row_of_text(text, "frame")) for text in frame["record"]] == written
    logged = json.loads(json.dumps({"columns": table.columns, "data": table.rows()}, allow_nan=False))
    assert as_record(row_of_table(logged, "run")) == written[0]


def test_command_line_reads_saved_tables(tmp_path):
    from typer.testing import CliRunner

    from intensive_callbacks.cli import app

    table = BenchmarkTable([MOE, DENSE])
    table.to_json(tmp_path / "table.json")
    table.to_csv(tmp_path / "table.csv")
    for name in ("table.json", "table.csv"):
        done = CliRunner().invoke(app, ["leaderboard", str(tmp_path / name), "--format", "json"])
        assert json.loads(done.stdout) == json.loads(table.to_json())
    (tmp_path / "broken.json").write_text('{"convention": "", "groups": 3}')
    done = CliRunner().invoke(app, ["leaderboard", str(tmp_path / "broken.json")])
    assert done.exit_code == 1
    assert "is not a benchmark table as to_json writes it" in done.stderr
