import csv
import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

from benchmark_table.rows import DENSE, MOE, OURS
from intensive_callbacks import BenchmarkTable, load_baselines
from intensive_callbacks.benchmark.records import row_of_text

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t1", "\uff1dHYPERLINK(1)", "\uff0b1", "\uff0d1", "\uff20SUM(A1)")
HOSTILE = '=HYPERLINK("http://x","y")'


def printed(table, width=120):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_printed_table_fits_120_columns():
    for name in ("language", "vision"):
        text = printed(BenchmarkTable([OURS, *load_baselines(name)]).featured())
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 120
        assert text.count(" ±") >= 3


def test_narrow_terminal_gets_blocks_with_all_cells():
    table = BenchmarkTable([OURS, *load_baselines("language")]).featured()
    wide, narrow = printed(table), printed(table, width=60)
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= 60
    row = next(line for line in wide.splitlines() if line.startswith("DeepSeek-V3"))
    cells = [
        line.split()[1:] for line in narrow.splitlines() if line.startswith("DeepSeek-V3 ") and "ranks" not in line
    ]
    assert [cell for block in cells for cell in block][: len(row.split()) - 1] == row.split()[1:]


def test_printed_row_has_figures_and_standard_errors():
    lines = printed(BenchmarkTable([MOE, DENSE])).splitlines()
    assert lines[0].strip() == "MMLU · 5-shot"
    costs, scores = (re.split(r"\s{2,}", line.strip()) for line in lines if line.startswith("sparse"))
    assert costs == ["sparse", "100B", "10B", "100G", "20G"]
    # The accuracy's standard error is 0.01; ID falls by ln(0.2) / 100 per accuracy, so its slope is 1 / 0.2 / 100.
    errors = ["80.0% ±1.0", "8.000 ±0.1", "4000 ±50", "0.800 ±0.01", "0.320 ±0.004", "0.0161 ±0.0005"]
    assert scores == ["sparse", *errors]
    assert re.split(r"\s{2,}", next(line for line in lines[5:] if line.startswith("dense")))[1] == "90.0%"


def test_perfect_accuracy_has_an_error():
    perfect = printed(BenchmarkTable([dataclasses.replace(MOE, accuracy=1.0, num_examples=9)]))
    assert "100.0% ±7.3" in perfect  # sqrt(0.95 x 0.05 / 9) = 0.0726 at 9.5 of 10 right


def test_dashes_are_explained():
    text = printed(BenchmarkTable([MOE, dataclasses.replace(DENSE, num_bytes=None)]))
    assert "— weights, MER" in text
    assert ": bytes of the weights not given" in text
    assert "source: by hand" in text


def test_featured_keeps_featured_rows_only():
    rows = [MOE, dataclasses.replace(DENSE, featured=False)]
    assert "dense" not in printed(BenchmarkTable(rows).featured())
    assert "dense" in printed(BenchmarkTable(rows))


def test_printed_measured_values():
    row = dataclasses.replace(OURS, measured_errors={"intensive/config_entropy": 0.0123})
    lines = printed(BenchmarkTable([row, MOE])).splitlines()
    assert next(line.split() for line in lines if line.startswith("CES")) == ["CES", "0.900", "±0.012", "fraction"]


def test_markdown_marks_the_best_and_escapes_markup():
    named = dataclasses.replace(MOE, model="a|b <script>*x*")
    text = BenchmarkTable([named, DENSE]).to_markdown()
    (line,) = [line for line in text.splitlines() if line.startswith("| a")]
    assert line.startswith(r"| a\|b &lt;script&gt;\*x\* | 100B | **10B** |")
    (header,) = [line for line in text.splitlines() if line.startswith("| model")]
    assert line.replace(r"\|", "").count("|") == header.count("|")


def test_csv_reads_back_and_has_no_formula():
    table = BenchmarkTable([dataclasses.replace(MOE, model=HOSTILE, source="\t@SUM(A1)"), DENSE])
    header, hostile, dense = csv.reader(io.StringIO(table.to_csv()))
    assert header == table.columns
    assert hostile[0] == f"'{HOSTILE}"
    assert hostile[header.index("source")] == "'\t@SUM(A1)"
    assert float(dense[header.index("MER (points per GB)")]) == pytest.approx(0.9)
    assert dense[header.index("accuracy standard error")] == ""


@pytest.mark.parametrize("text", FORMULAS)
def test_formula_in_a_csv_is_inert(text):
    table = BenchmarkTable([dataclasses.replace(MOE, model=text, measured={text: 1.0})])
    header, cells = csv.reader(io.StringIO(table.to_csv()))
    assert cells[0] == f"'{text}"
    assert f"'{text} measured" in header


def test_csv_has_no_escape_for_a_terminal():
    row = dataclasses.replace(MOE, model="\x1b]0;owned\x07\x1b[31mred", source="a\rb")
    header, cells = csv.reader(io.StringIO(BenchmarkTable([row]).to_csv()))
    assert not re.search(r"[\x00-\x1f]", "".join(cells))
    assert row_of_text(cells[header.index("record")], "csv") == row


def test_json_has_value_error_reason_and_best(tmp_path):
    path = tmp_path / "table.json"
    table = BenchmarkTable([MOE, dataclasses.replace(DENSE, num_bytes=None)])
    assert table.to_json(path) == path.read_text(encoding="utf-8")
    (group,) = json.loads(path.read_text(encoding="utf-8"))["groups"]
    sparse, dense = group["rows"]
    assert sparse["cells"]["intensive/p3_score"] == {"value": 8.0, "standard_error": pytest.approx(0.1), "best": True}
    assert dense["cells"]["intensive/memory_efficiency"] == {"value": None, "missing": "bytes of the weights not given"}


def test_model_name_is_plain_text_in_the_terminal():
    text = printed(BenchmarkTable([dataclasses.replace(MOE, model="[red]x[/] \x1b[2Jy\nz"), DENSE]))
    assert "\x1b" not in text
    assert "[red]x[/]" in text
