"""Offline W&B runs read back by W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path


def inspected(folder):
    """Every record of a finished offline run."""
    import wandb

    # A finished run may still be on its way to the disk: only the end of wandb's service process says that it is there.
    wandb.teardown()
    tool = Path(sys.executable).with_name("wandb")
    out = subprocess.run([tool, "leet", "inspect", folder, "--json"], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in out.stdout.splitlines()]
