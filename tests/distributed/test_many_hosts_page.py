"""The examples of docs/many-hosts.md, each on two processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "many-hosts.md"
COMMON, *EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
NAMES = ["torchrun", "lightning", "fabric", "accelerate", "torchtitan"]
# Both processes have the same values, of a model of 387 parameters that has seen all examples.
CHECK = """
import json, os
kept = {key: float(value) for key, value in values.items() if key in ("intensive/p3_score", "intensive/relevance_rate")}
assert abs(kept["intensive/relevance_rate"] / (kept["intensive/p3_score"] * 387e-11 * 3) - 1) < 1e-5, kept
print("VALUES", os.environ["RANK"], json.dumps(kept), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "example"), [*zip(NAMES, EXAMPLES, strict=True)], ids=NAMES)
def test_example_on_two_processes(tmp_path, name, example):
    if name == "accelerate":
        pytest.importorskip("accelerate")
    if name == "fabric":
        pytest.importorskip("lightning")
    script = tmp_path / "example.py"
    script.write_text(COMMON + example + CHECK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    options = {"cwd": tmp_path, "env": {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    values = dict(line.split(maxsplit=2)[1:] for line in done.stdout.splitlines() if line.startswith("VALUES"))
    assert len(values) == 2
    assert values["0"] == values["1"]
    assert "intensive/p3_score" in values["0"]
