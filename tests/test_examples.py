"""Every example runs, and says what it is there to say."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from digits import EXAMPLES


def run(tmp_path, name, *arguments):
    # Another test of this process may have left a wandb service behind, which the example must not join.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    for folder in ("CACHE", "DATA", "CONFIG", "ARTIFACT"):
        environment[f"WANDB_{folder}_DIR"] = str(tmp_path)
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_quickstart(tmp_path):
    started = time.monotonic()
    out = run(tmp_path, "00_quickstart.py")
    assert time.monotonic() - started < 90  # what the README says of it
    assert re.search(r"DigitsClassifier +70k", out)
    assert "ImageNet-1k top-1" in out
    assert "wandb sync " in out
    page = (tmp_path / "demo/overview.html").read_text()
    assert not re.search(r"(src|href)=[\"']https?:", page)
    assert (tmp_path / "demo/overview.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("demo/wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_the_plain_loop(tmp_path):
    out = run(tmp_path, "01_plain_loop.py")
    rows = [json.loads(line) for line in (tmp_path / "demo/plain_loop/values.jsonl").read_text().splitlines()]
    # 64·32 + 32 + 32·10 + 10 parameters and 2·(64·32 + 32·10) FLOPs an example
    assert rows[0]["baseline/total_params"] == 2410
    assert rows[0]["baseline/flops_per_example"] == 4736
    assert rows[-1]["step"] == 500
    assert rows[-1]["intensive/p3_score"] > 0
    assert "ImageNet-1k top-1" in out
    assert "Sequential" in (tmp_path / "demo/plain_loop/final_benchmark.md").read_text()


@pytest.mark.slow
def test_the_command_line_from_yaml(tmp_path):
    out = run(tmp_path, "03_cli.py", "fit", "--config", str(EXAMPLES / "config.yaml"))
    assert re.search(r"DigitsFromYaml +70k", out)
