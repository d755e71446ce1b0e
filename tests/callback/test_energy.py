"""What a run on a GPU says of its energy, and that a run on a CPU says nothing."""

import math

import pytest
import torch
from torch import nn

from intensive_callbacks import Monitor

ENERGY = ["intensive/accuracy_per_joule", "intensive/landauer_ratio"]


def watch(device):
    model = nn.Linear(64, 64).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, every_n_steps=400, metrics=ENERGY, strict=device != "cpu") as monitor:
        for step in range(1, 401):
            batch = torch.ones(32, 64, device=device)
            monitor.observe(batch)
            model(batch).sum().backward()
            optimizer.step()
            values = monitor.log(step, accuracy=0.5 if step == 400 else None)
    return values


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_on_a_cpu_has_no_energy():
    with pytest.warns(RuntimeWarning, match="was asked for and is not logged") as caught:
        values = watch("cpu")
    assert [key for key in values if "joule" in key or "landauer" in key] == []
    told = [str(warning.message) for warning in caught]
    assert [symbol for symbol in ("P/J", "Landauer") if any(symbol in message for message in told)] == [
        "P/J",
        "Landauer",
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu_draws_plausible_power():
    pytest.importorskip("pynvml")
    values = watch("cuda")
    watts = values["cost/joules_per_example"] * values["cost/examples_per_second"]
    assert 10 < watts < 1500
    assert values["intensive/accuracy_per_joule"] == pytest.approx(50 / values["cost/joules_per_example"])
    # 4 bytes of each of 64 x 65 parameters, rewritten 400 times, at k ln 2 x 300 K each bit
    joules = values["cost/joules_per_example"] * 400 * 32
    limit = 1.380649e-23 * 300 * math.log(2) * 32 * 64 * 65 * 400
    assert values["intensive/landauer_ratio"] == pytest.approx(joules / limit)
