import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import loopback
from benchmark_table.rows import OURS
from intensive_callbacks import BenchmarkTable
from intensive_callbacks.benchmark.runs import row_of_table

ROOT = Path(__file__).parents[2]
# In a process of its own, since wandb keeps its connection; one for all, since it takes long to start.
ASK = """
import json, sys
from intensive_callbacks.sinks.wandb import download_table

for path in sys.argv[1:]:
    try:
        print(json.dumps(download_table(path)))
    except OSError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""
TABLES = {3: "old", 12: "new"}


class Server(loopback.Loopback):
    """A server with one finished run, which logged its table twice."""

    def on_get_default_entity(self, _):
        return {"viewer": {"id": "u", "entity": "e"}}

    def on_run(self, variables):
        if variables["name"] not in ("done", "empty"):
            return {"project": {"internalId": "1", "run": None}}
        texts = dict.fromkeys(("config", "systemMetrics", "summaryMetrics"), "{}")
        dates = dict.fromkeys(("createdAt", "heartbeatAt"), "2025-01-01T00:00:00")
        nothing = dict.fromkeys(("sweepName", "group", "jobType", "commit", "description", "notes", "historyKeys"))
        run = {
            "id": "b",
            "name": variables["name"],
            "displayName": "d",
            "state": "finished",
            "tags": [],
            "projectId": "1",
        }
        run |= {"readOnly": False, "historyLineCount": 0, "user": {"name": "u", "username": "u"}}
        return {"project": {"internalId": "1", "run": {**run, **texts, **dates, **nothing}}}

    def on_run_files(self, variables):
        assert variables["pattern"] == "media/table/final_benchmark_%"
        names = [f"media/table/final_benchmark_{step}_ab.table.json" for step in TABLES]
        files = [
            {
                "id": name,
                "name": name,
                "url": f"{self.url}/{name}",
                "directUrl": f"{self.url}/{name}",
                "sizeBytes": "9",
                "mimetype": "",
                "updatedAt": "2025-01-01T00:00:00",
                "md5": "x",
            }
            for name in (names if variables["name"] == "done" else [])
        ]
        edges = [{"node": file, "cursor": file["id"]} for file in files]
        found = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(files), "files": found}}}


def send_table(handler):
    step = int(re.search(r"final_benchmark_(\d+)_", handler.path)[1])
    table = BenchmarkTable([dataclasses.replace(OURS, model=TABLES[step])])
    handler._send(200, {"columns": table.columns, "data": table.rows()})


def test_newest_table_of_an_online_run(offline, monkeypatch):
    monkeypatch.setattr(loopback._Handler, "do_GET", send_table)
    with Server() as server:
        online = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": loopback.KEY, "WANDB_MODE": "online"}
        asked = subprocess.run(
            [sys.executable, "-c", ASK, "e/p/done", "e/p/gone", "e/p/empty"],
            env={**os.environ, **online, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
    done, gone, empty = map(json.loads, asked.stdout.splitlines())
    assert row_of_table(done, "e/p/done").model == "new"
    assert gone.startswith("ConnectionError: cannot read the W&B run e/p/gone")
    assert empty.startswith("FileNotFoundError: the W&B run e/p/empty has no table final_benchmark")
    assert loopback.KEY not in asked.stdout + asked.stderr
