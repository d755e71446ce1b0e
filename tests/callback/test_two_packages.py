"""One class for both packages of Lightning, whichever is loaded first."""

import subprocess
import sys

import pytest

CHECK = """
from intensive_callbacks import IntensiveMetricsCallback
first = IntensiveMetricsCallback
import {package}
from intensive_callbacks import IntensiveMetricsCallback
assert issubclass(IntensiveMetricsCallback, {package}.callbacks.Callback)
assert issubclass(IntensiveMetricsCallback, first)
import pickle
made = IntensiveMetricsCallback(every_n_steps=7)
assert pickle.loads(pickle.dumps(made)).every_n_steps == 7
assert made.state_key == first(every_n_steps=7).state_key
"""


@pytest.mark.parametrize(
    ("loaded", "package"), [("pytorch_lightning", "lightning.pytorch"), ("lightning.pytorch", "pytorch_lightning")]
)
def test_it_is_a_callback_of_what_is_loaded(loaded, package):
    script = f"import {loaded}\n{CHECK.format(package=package)}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
