import csv
import json
import math
import signal
import subprocess
import sys

import pytest

from intensive_callbacks.sinks import FileSink, charts
from sinks.logged import ALARM, CELLS, CES, OVERVIEW, P3, POINTS, VERDICT, log_all, table


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def log_twice(sink):
    log_all(sink)
    log_all(sink)


@pytest.fixture
def without_render(monkeypatch):
    charts.can_draw.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    yield
    charts.can_draw.cache_clear()


def test_a_folder_holds_all_that_a_run_gave(tmp_path):
    folder = tmp_path / "runs" / "tiny"
    log_all(FileSink(folder))
    assert lines(folder / "values.jsonl") == [{"step": 49, P3: 1.0, CES: None}, {"step": 99, P3: 2.0}]
    assert lines(folder / "alerts.jsonl") == [{"title": "routing/health", "text": ALARM}]
    assert json.loads((folder / "summary.json").read_text()) == {"routing/health": VERDICT}
    overview = json.loads((folder / "overview.json").read_text())
    assert overview == [{"run": "tiny", "metric": key, "step": step, "value": value} for key, step, value in POINTS]
    heatmap = json.loads((folder / "heatmap.json").read_text())
    assert [(row["layer"], row["expert"], row["load"]) for row in heatmap] == CELLS
    with (folder / "final_benchmark.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["tiny", "large"]
    assert [float(row["accuracy (fraction)"]) for row in rows] == [0.9, 0.95]
    assert "tiny" in (folder / "final_benchmark.md").read_text(encoding="utf-8")
    assert json.loads((folder / "final_benchmark.json").read_text())["groups"]


def test_the_page_draws_every_chart_and_fetches_nothing(tmp_path):
    sink = FileSink(tmp_path)
    log_all(sink)
    page = (tmp_path / "overview.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 4  # overview, heatmap, frontier, benchmark table
    assert "src=" not in page.partition("<script")[0]
    (tmp_path / "overview.html").unlink()
    sink.close()
    assert not (tmp_path / "overview.html").exists()


def test_without_the_render_extra_one_line_names_it(tmp_path, without_render):
    with pytest.warns(RuntimeWarning, match=r"intensive_callbacks: .*'intensive-callbacks\[render\]'") as caught:
        log_twice(FileSink(tmp_path))
    assert len(caught) == 1
    assert (tmp_path / "overview.json").exists()
    assert not (tmp_path / "overview.html").exists()


def test_a_sink_without_page_never_asks_for_the_extra(tmp_path, without_render):
    log_all(FileSink(tmp_path, page=False))
    assert not (tmp_path / "overview.html").exists()


def test_a_killed_run_has_every_row_up_to_its_end(tmp_path):
    script = """if True:
        import os, signal, sys
        from intensive_callbacks.sinks import FileSink
        sink = FileSink(sys.argv[1])
        for step in range(100):
            sink.log_values({"intensive/p3_score": step / 10}, step)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [row[P3] for row in lines(tmp_path / "values.jsonl")] == [step / 10 for step in range(100)]


def test_a_resumed_run_appends_its_rows(tmp_path):
    for steps in (range(3), range(3, 5)):
        sink = FileSink(tmp_path)
        for step in steps:
            sink.log_values({P3: 1.0}, step)
    assert [row["step"] for row in lines(tmp_path / "values.jsonl")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_line_is_valid_json_whatever_the_value(tmp_path, value):
    FileSink(tmp_path).log_values({P3: value}, 1)

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "values.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 1, P3: None}


def test_nothing_is_written_before_there_is_something(tmp_path):
    sink = FileSink(tmp_path / "never")
    sink.log_chart("overview", [])
    sink.log_chart("overview", OVERVIEW, final=False)
    sink.close()
    assert not (tmp_path / "never").exists()


def test_a_folder_that_cannot_be_created_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        FileSink(tmp_path / "file").log_table("final_benchmark", table())
