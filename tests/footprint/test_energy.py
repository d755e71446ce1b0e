from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from intensive_callbacks.footprint.energy import EnergyMeter
from intensive_callbacks.footprint.speed import Pace


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_energy_is_absent_and_not_zero():
    with EnergyMeter() as meter:
        torch.ones(100) @ torch.ones(100)
    assert meter.joules is None
    _, joules = Pace(nn.Linear(2, 2)).read()
    assert math.isnan(joules)


def test_pauses_do_not_count_and_a_reading_begins_anew():
    # On at 10, paused from 14 to 20, read at 21 (and on again at once), read at 25.5.
    times = iter([10.0, 14.0, 20.0, 21.0, 21.0, 25.5, 25.5])
    pace = Pace(nn.Linear(2, 2), clock=lambda: next(times))
    pace.pause()
    pace.resume()
    assert pace.read()[0] == 5.0
    assert pace.read()[0] == 4.5
