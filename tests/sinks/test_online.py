"""Online, with wandb's real client in a process of its own and a stand-in for the server on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from intensive_callbacks.dashboards.presets import PRESETS
from loopback import KEY, Loopback

QUICK = "x_graphql_retry_max=1, x_file_stream_retry_max=1, x_file_transfer_retry_max=1, x_file_stream_timeout_seconds=2"
QUICK += ", x_graphql_timeout_seconds=2, x_file_transfer_timeout_seconds=2"
TESTS = Path(__file__).parents[1]
TRAIN = f"""
import sys, time, warnings
from pathlib import Path
import wandb
from intensive_callbacks.dashboards.publish import PublishError
from intensive_callbacks.sinks import WandbSink
from intensive_callbacks.sinks.wandb import sync_command

class Table:
    columns = ["model", "P3"]
    def rows(self):
        return [["tiny", 1.0]]

run = wandb.init(entity="e", project="p", settings=wandb.Settings({QUICK}))
"""


@pytest.fixture
def server():
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def child(offline, server):
    """Runs a script online against the stand-in: its exit code, all it said and all that wandb wrote down."""
    started = []

    def start(script):
        environment = {
            **os.environ,
            "WANDB_MODE": "online",
            "WANDB_SILENT": "false",
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
            "WANDB_HTTP_TIMEOUT": "2",
        }
        command = [sys.executable, "-c", script]
        with (offline / "said.txt").open(
            "w", encoding="utf-8"
        ) as said:  # a pipe would stay open as long as wandb's service
            process = subprocess.Popen(
                command, stdout=said, stderr=subprocess.STDOUT, env=environment, cwd=offline, start_new_session=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def words(folder):
    """Everything the process said, and every line of wandb's logs."""
    logs = [path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.log")]
    return "\n".join([(folder / "said.txt").read_text(encoding="utf-8"), *logs])


def test_an_online_run_publishes_once_and_logs_chart_and_table(child, server, offline):
    script = (
        TRAIN
        + """
for _ in range(2):
    sink = WandbSink(run)
    sink.publish()
sink.publish()
sink.log_values({"intensive/p3_score": 1.0}, 4)
sink.log_chart("overview", [{"step": step, "intensive/p3_score": float(step)} for step in range(5)])
sink.log_chart("heatmap", [{"step": 4, "loads": {"layer": [1, 3]}}])
sink.log_table("final_benchmark", Table())
assert sync_command(run) is None
run.finish()
"""
    )
    assert child(script).wait(90) == 0, words(offline)
    assert server.misunderstood == []
    assert server.operations.count("SaveView") == 2
    assert len(server.charts) == len(PRESETS)
    assert len(server.views) == 1
    (view,) = server.views.values()
    assert (view["entity"], view["project"], view["displayName"]) == ("e", "p", "Intensive metrics")
    assert all(f'"{chart}"' in view["spec"] for chart in server.charts)
    for name, preset in PRESETS.items():
        (chart,) = [chart for chart in server.charts.values() if chart["chartName"].startswith(f"intensive-{name}-")]
        assert (chart["displayName"], chart["access"]) == (preset.title, "PRIVATE")
    logged = {key for row in server.history for key in row}
    assert {"intensive/p3_score", "intensive_overview_table", "routing_heatmap_table", "final_benchmark"} <= logged
    (table,) = [content for name, content in server.files.items() if "media/table/intensive_overview" in name]
    assert len(json.loads(table)["data"]) == 5
    assert KEY not in words(offline)


@pytest.mark.parametrize(
    ("operation", "status"),
    [("Viewer", 401), ("CreateCustomChart", 401), ("CreateCustomChart", 403), ("SaveView", 403), ("Views", 404)],
)
def test_a_refusal_is_one_line_and_no_key(child, server, offline, operation, status):
    server.refuse[operation] = status
    script = "from intensive_callbacks.dashboards.cli import app; app(['publish', '--entity', 'e', '--project', 'p'])"
    assert child(script).wait(60) == 1
    lines = [line for line in (offline / "said.txt").read_text(encoding="utf-8").splitlines() if "wandb:" not in line]
    assert len(lines) == 1, lines
    assert "W&B" in lines[0]
    assert KEY not in words(offline)


def test_publishing_into_a_missing_project_says_what_to_do(child, server, offline):
    server.projects = set()
    script = "from intensive_callbacks.dashboards.cli import app; app(['publish', '--entity', 'e', '--project', 'p'])"
    assert child(script).wait(60) == 1
    assert "log a run there first" in words(offline)


def test_the_command_publishes_and_prints_where_to_look(child, server, offline):
    script = "from intensive_callbacks.dashboards.cli import app; app(['publish', '--entity', 'e', '--project', 'p'])"
    assert child(script).wait(60) == 0, words(offline)
    assert f"{server.url}/e/p?nw=" in words(offline)
    assert child(script).wait(60) == 0, words(offline)
    assert words(offline).count("is there already") == len(PRESETS)
    assert (len(server.charts), len(server.views)) == (len(PRESETS), 1)


def test_without_a_network_publishing_is_one_line(child, server, offline):
    server.stop()
    script = "from intensive_callbacks.dashboards.cli import app; app(['publish', '--entity', 'e', '--project', 'p'])"
    begun = time.monotonic()
    assert child(script).wait(120) == 1
    assert time.monotonic() - begun < 100
    assert "no connection to W&B" in words(offline)
    assert "Traceback" not in words(offline)


def test_dry_run_needs_neither_key_nor_network(child, server, offline):
    server.stop()
    script = "from intensive_callbacks.dashboards.cli import app; "
    script += "app(['publish', '--entity', 'e', '--project', 'p', '--dry-run'])"
    assert child(script).wait(60) == 0
    assert words(offline).count("would publish chart e/intensive-") == len(PRESETS)
    assert server.operations == []


def training(folder, callbacks=""):
    """A script that trains the quickstart's model online and publishes the dashboard."""
    return f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
import pytorch_lightning as pl
import wandb
from callback.runs import fit
from intensive_callbacks import IntensiveMetricsCallback

class Waits(pl.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 8:
            Path("begun").touch()
            while not Path("dead").exists():
                time.sleep(0.05)

logger = pl.loggers.WandbLogger(
    entity="e", project="p", save_dir={str(folder)!r}, settings=wandb.Settings({QUICK})
)
watching = IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, publish_dashboard=True)
trainer = fit(watching, {callbacks}logger=logger)
assert trainer.global_step == 20
Path("trained").touch()
wandb.finish()
"""


@pytest.mark.slow
def test_a_second_training_reuses_what_the_first_published(child, server, offline):
    for _ in range(2):
        assert child(training(offline)).wait(120) == 0, words(offline)
    assert server.misunderstood == []
    assert (len(server.charts), len(server.views)) == (len(PRESETS), 1)
    tables = [name for name in server.files if "media/table/intensive_overview" in name]
    assert len(tables) == 2
    assert KEY not in words(offline)


def test_training_ends_well_though_publishing_is_refused(child, server, offline):
    server.refuse["CreateCustomChart"] = 401
    assert child(training(offline)).wait(120) == 0, words(offline)
    assert "publishing the dashboard failed: PublishError" in words(offline)
    assert any("final_benchmark" in row for row in server.history)
    assert KEY not in words(offline)


@pytest.mark.slow
def test_training_ends_well_though_the_server_dies_in_its_middle(child, server, offline):
    process = child(training(offline, "Waits(), "))
    until(offline / "begun", process)
    assert "UpsertBucket" in server.operations
    server.stop()
    (offline / "dead").touch()
    until(offline / "trained", process)
    assert re.search("WandbLogger, log_(table|chart) failed", words(offline))
    assert KEY not in words(offline)


def until(path, process, seconds=90):
    end = time.monotonic() + seconds
    while not Path(path).exists():
        assert process.poll() is None, f"it ended before {path.name}"
        assert time.monotonic() < end, f"no {path.name} after {seconds} s"
        time.sleep(0.05)
