"""What is formed of the seconds and joules of training, and that nothing is where no GPU counts joules."""

import math

import pytest
import torch
from torch import nn

from intensive_callbacks import Monitor
from intensive_callbacks.gathered import Gathered, scalars
from intensive_callbacks.knowledge import Knowledge

ENERGY = ["intensive/accuracy_per_joule", "intensive/landauer_ratio"]


def gathered(tokens=0, examples=0, **pace):
    new = scalars(tokens=tokens, examples=examples, has_tokens=tokens > 0)
    rest = {"cost/flops": 0, "cost/positions": 0, "accuracy/weight": 0}
    sums = {**{f"new/{name}": value for name, value in new.items()}, **scalars(**rest)}
    return Gathered({**sums, **{f"pace/{name}": value for name, value in scalars(**pace).items()}})


def test_speed_and_energy_of_two_processes():
    known = Knowledge(None)
    known.begin_pace(100)
    # Two processes of 5 s each: together 12,000 tokens in 5 s, for 600 J; each rewrites 32e9 bits a step.
    bits = 2 * 32e9
    known.learn(gathered(tokens=1_000, processes=2, seconds=4, joules=100, bits=bits), ())  # at the first step
    known.learn(gathered(tokens=6_000), ())  # after a validation
    window = gathered(tokens=5_000, processes=2, seconds=6, joules=500, bits=bits)
    known.learn(window, ())
    known.take_pace(window, 150)
    assert {key: value.item() for key, value in known.pace.items()} == {
        "cost/tokens_per_second": 2_400,
        "cost/joules_per_token": 0.05,
    }
    assert known.facts["num_joules"] == 0.05
    assert known.signals("energy", window, due=True) == {"joules": 600, "bits_erased": 50 * 64e9}
    assert known.signals("energy", window, due=False) is None


def test_where_nothing_counts_joules_there_are_none():
    known = Knowledge(None)
    window = gathered(examples=640, processes=1, seconds=2, joules=math.nan, bits=320)
    known.learn(window, ())
    known.take_pace(window, 10)
    assert {key: value.item() for key, value in known.pace.items()} == {"cost/examples_per_second": 320}
    assert "num_joules" not in known.facts
    assert known.signals("energy", window, due=True) is None


def watch(device):
    model = nn.Linear(64, 64).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, every_n_steps=400, metrics=ENERGY, strict=True) as monitor:
        for step in range(1, 401):
            batch = torch.ones(32, 64, device=device)
            monitor.observe(batch)
            model(batch).sum().backward()
            optimizer.step()
            values = monitor.log(step, accuracy=0.5 if step == 400 else None)
    return values


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_on_a_cpu_has_no_energy():
    assert [key for key in watch("cpu") if "joule" in key or "landauer" in key] == []


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
