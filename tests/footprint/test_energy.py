from __future__ import annotations

import math

import pytest
import torch

from intensive_callbacks.footprint.energy import EnergyMeter
from intensive_callbacks.footprint.speed import Throughput


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_energy_is_absent_and_not_zero():
    with EnergyMeter() as meter:
        torch.ones(100) @ torch.ones(100)
    assert meter.joules is None


def test_throughput_is_counted_from_the_last_reading():
    times = iter([10.0, 14.0, 15.0, 15.0])
    throughput = Throughput(clock=lambda: next(times))
    throughput.add(300)
    throughput.add(100)
    assert throughput.read() == 100.0
    throughput.add(7)
    assert throughput.read() == 7.0
    assert math.isnan(throughput.read())  # no time has passed
