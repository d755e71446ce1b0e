from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import MemoryEfficiencyRatio, PerformancePerFlop, PerformancePerJoule, PerformancePerParameter
from intensive_callbacks.functional import (
    memory_efficiency_ratio,
    performance_per_flop,
    performance_per_joule,
    performance_per_parameter,
)

# 0.85 as the mean of two batches of different size.
HALVES = [{"accuracy": 0.7, "num_examples": 10}, {"accuracy": 0.9, "num_examples": 30}]
ACCURACY = {
    "updates": HALVES,
    "whole": {"accuracy": 0.85, "num_examples": 40},
    "arguments": {"accuracy": torch.tensor(0.85, dtype=torch.float64)},
    "empty": {"accuracy": 0.5, "num_examples": 0},
    "undefined": [[{"accuracy": torch.nan}], [*HALVES, {"accuracy": torch.nan}]],
}

CASES = [
    # DeepSeek-V3, 85 % at 37e9 active parameters: 85 / 37
    Case(
        build=lambda: PerformancePerParameter(num_params=37e9),
        function=partial(performance_per_parameter, num_params=37e9),
        expected=2.297297,
        bounds=(0, 100 / 37),
        **ACCURACY,
    ),
    # the same over all 671e9 parameters, corrected for a chance of 1/4: 100 * 0.8 / 671
    Case(
        build=lambda: PerformancePerParameter(num_params=671e9, chance_corrected=True, random_baseline=0.25),
        function=partial(performance_per_parameter, num_params=671e9, chance_corrected=True, random_baseline=0.25),
        expected=0.1192250,
        bounds=(-100 / 671 / 3, 100 / 671),
        **ACCURACY,
    ),
    # 6 x 37e9 = 0.222 TFLOP per token: 85 / 0.222
    Case(
        build=lambda: PerformancePerFlop(num_flops=222e9),
        function=partial(performance_per_flop, num_flops=222e9),
        expected=382.88288,
        bounds=(0, 100 / 0.222),
        **ACCURACY,
    ),
    # DeepSeek-V3 in fp8, all 671 GB resident: 85 / 671
    Case(
        build=lambda: MemoryEfficiencyRatio(num_bytes=671e9),
        function=partial(memory_efficiency_ratio, num_bytes=671e9),
        expected=0.12667660,
        bounds=(0, 100 / 671),
        **ACCURACY,
    ),
    # 700 W at 35,000 tokens a second are 0.02 J per token: 85 / 0.02
    Case(
        build=lambda: PerformancePerJoule(num_joules=0.02),
        function=partial(performance_per_joule, num_joules=0.02),
        expected=4250.0,
        bounds=(0, 5000),
        **ACCURACY,
    ),
]
