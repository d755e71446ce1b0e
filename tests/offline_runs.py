"""Offline W&B runs read back by W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path


def inspected(folder):
    """Every record of a finished offline run."""
    import wandb

    # A finished run may not be on the disk yet: only the end of wandb's service process tells.
    wandb.teardown()
    tool = Path(sys.executable).with_name("wandb")
    command = [tool] if tool.exists() else [sys.executable, "-m", "wandb"]
    out = subprocess.run([*command, "leet", "inspect", folder, "--json"], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def history(records):
    """The rows of the history, each a dict by key."""
    rows = [record["history"] for record in records if record["type"] == "history"]
    return [row.get("item", row) for row in rows]


def tables(folder, key):
    """Every version of a table in a run's folder, as W&B stores it, oldest first."""
    paths = Path(folder).glob(f"files/media/table/{key}_*.table.json")
    # W&B numbers a version by the step at which it was logged: final_benchmark_123_0a1b.table.json.
    ordered = sorted(paths, key=lambda path: int(path.name.removeprefix(f"{key}_").partition("_")[0]))
    return [json.loads(path.read_text(encoding="utf-8")) for path in ordered]
