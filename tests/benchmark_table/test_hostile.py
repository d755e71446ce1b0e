"""Whatever a file holds, it is read or refused with a message; nothing else happens."""

import contextlib
import csv
import dataclasses
import io
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmark_table.rows import DENSE, MOE
from benchmark_table.test_harness import RESULTS
from intensive_callbacks import BenchmarkTable, load_baselines
from intensive_callbacks.benchmark.harness import load_harness_results
from intensive_callbacks.benchmark.runs import row_of_table

COLUMNS = ["model", "task", "protocol", "source", "accuracy", "total_params", "active_params", "num_examples", "per"]
CELL = (
    st.sampled_from(["a", "0.5", "50", "1e400", "-1", "nan", "", "inf", "=1+1", '"', "a,b", "\x00", "token"])
    | st.text()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RESULTS, "mmlu", "acc,none"]), inner),
    max_leaves=12,
)
FIELDS = [field.name for field in dataclasses.fields(MOE)]
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def export_all(rows):
    """What was read can be shown in every way, and no cell of the CSV that was a text is a formula."""
    table = BenchmarkTable(rows)
    assert json.loads(table.to_json())["groups"] or not rows
    assert table.to_markdown()
    Console(file=io.StringIO(), width=80).print(table)
    for line in csv.reader(io.StringIO(table.to_csv())):
        assert not any(cell.startswith(("=", "+", "@")) for cell in line)


@quick
@given(rows=st.lists(st.lists(CELL, min_size=8, max_size=10), max_size=4), raw=st.binary(max_size=40))
def test_a_csv_file(tmp_path, rows, raw):
    path = tmp_path / "theirs.csv"
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    for content in (raw, text.getvalue().encode("utf-8", "surrogatepass")):
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            export_all(load_baselines(path))


@quick
@given(key=st.sampled_from([*RESULTS]), value=JSON, everything=JSON)
def test_a_results_file(tmp_path, key, value, everything):
    path = tmp_path / "results.json"
    for results in ({**RESULTS, key: value}, everything):
        path.write_text(json.dumps(results), encoding="utf-8")
        with contextlib.suppress(ValueError):
            export_all(load_harness_results(path))


@quick
@given(place=st.integers(0, 40), key=st.sampled_from(FIELDS), value=JSON, everything=JSON)
def test_a_logged_table(place, key, value, everything):
    good = BenchmarkTable([MOE, DENSE])
    data = good.rows()
    data[0][place % len(data[0])] = value
    record = [*data[0][:-1], json.dumps({**json.loads(good.rows()[0][-1]), key: value})]
    tables = [{"columns": good.columns, "data": [cells]} for cells in (data[0], data[0][:-1], record)]
    for table in (*tables, {"columns": everything, "data": data}, everything):
        with contextlib.suppress(ValueError):
            export_all([row_of_table(table, "place")])
