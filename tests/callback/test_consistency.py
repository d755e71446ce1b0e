"""One run: whatever shows a value shows the same value, to the last digit."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import WandbLogger
from typer.testing import CliRunner

from callback.runs import LogCalls, fit
from intensive_callbacks import IntensiveMetricsCallback
from intensive_callbacks.cli import app
from offline_runs import inspected

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*anonymous:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*was asked for and is not logged"),
]
OURS = ("intensive/", "routing/", "baseline/", "cost/")
NOT_DRAWN = ("baseline/", "cost/")


def newest(rows):
    """The newest value of each key."""
    values = {}
    for row in rows:
        values |= {key: value for key, value in row.items() if key.startswith(OURS)}
    return values


def specs_of(page):
    """The rows of each chart on a page."""
    (specs,) = re.findall(r'<script type="application/json" id="specs">(.*?)</script>', page.read_text())
    return [spec["data"]["values"] for spec in json.loads(specs)]


def test_every_place_shows_the_same_value(offline, capsys):
    wandb, calls = WandbLogger(project="p", save_dir=offline, offline=True), LogCalls()
    callback = IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, benchmark=None, task="digits")
    trainer = fit(callback, logger=[wandb, calls], default_root_dir=offline)
    printed = capsys.readouterr().out
    folder = wandb.experiment.settings.sync_dir
    wandb.experiment.finish()
    logged = newest(row for _, row in calls.calls)
    assert len(logged) > 25

    # The history, and the files' lines, to the last bit.
    assert callback.history.newest() == logged
    (values,) = Path(offline).rglob("values.jsonl")
    lines = [json.loads(line) for line in values.read_text().splitlines()]
    assert newest(lines) == {key: None if math.isnan(value) else value for key, value in logged.items()}

    # Other callbacks find them as float32, as Lightning's own.
    metrics = trainer.callback_metrics
    assert {key: float(metrics[key]) for key in logged} == {k: float(torch.tensor(v)) for k, v in logged.items()}

    # W&B, read back from its file.
    history = [record["history"] for record in inspected(folder) if record["type"] == "history"]
    assert newest(row.get("item", row) for row in history) == logged

    # The final table: the cells, its JSON and W&B's copy of it.
    table = callback.monitor.finish()
    row = table.groups["digits", "measured in this run"][0]
    shared = row.measured.keys() & logged.keys()
    assert len(shared) > 12
    assert {key: row.measured[key] for key in shared} == {key: logged[key] for key in shared}
    (stored,) = Path(folder).glob("files/media/table/final_benchmark*.table.json")
    stored = json.loads(stored.read_text())
    assert stored["columns"] == list(table.columns)
    assert stored["data"] == [
        [None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in each]
        for each in table.rows()
    ]

    # The page that is drawn of the run: each value at its last step, and the row of the table.
    page = Path(offline) / "page.html"
    result = CliRunner().invoke(app, ["dashboard", "render", folder, "--out", str(page)])
    assert result.exit_code == 0, result.output
    overview, *_, benchmark = specs_of(page)
    drawn = {key: value for key, value in logged.items() if math.isfinite(value) and not key.startswith(NOT_DRAWN)}
    assert len(drawn) > 12
    assert {point["metric"]: point["value"] for point in overview} == drawn
    shown = dict(zip(table.columns, table.rows()[0], strict=True))
    assert len(benchmark) == 1
    assert benchmark[0] == {column: shown[column] for column in benchmark[0]}
    assert benchmark[0]["accuracy (fraction)"] == row.accuracy
    assert benchmark[0]["weights (GB)"] == logged["baseline/num_bytes"] / 1e9

    # Words: the terminal and Markdown round the same numbers.
    (markdown,) = Path(offline).rglob("final_benchmark.md")
    accuracy = f"{100 * callback.monitor.facts.accuracy:.1f}%"
    for text in (printed, markdown.read_text()):
        assert re.search(re.escape(accuracy).replace("%", r"\s?%"), text.replace("\\", "")), accuracy
    assert markdown.read_text() == table.to_markdown()
