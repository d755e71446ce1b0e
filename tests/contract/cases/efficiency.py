import math
from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import (
    CapabilityDensity,
    GeneralizationEfficiency,
    IntelligenceDensity,
    MemoryEfficiencyRatio,
    NetScore,
    ParameterFlopEfficiency,
    PerformancePerFlop,
    PerformancePerJoule,
    PerformancePerParameter,
)
from intensive_callbacks.functional import (
    capability_density,
    generalization_efficiency,
    intelligence_density,
    memory_efficiency_ratio,
    net_score,
    parameter_flop_efficiency,
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
SIZES = torch.tensor([250_000, 500_000, 1_000_000])
ACCURACIES = torch.tensor([0.55, 0.70, 0.85], dtype=torch.float64)

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
    # minus ln 0.15, over 1.15 GB
    Case(
        build=lambda: IntelligenceDensity(num_bytes=1.15e9),
        function=partial(intelligence_density, num_bytes=1.15e9),
        expected=1.897_119_98 / 1.15,
        bounds=(0, math.inf),
        **ACCURACY,
    ),
    # log2((1 - 0.4) / (1 - 0.85)) = 2 bits, in half a GB
    Case(
        build=lambda: IntelligenceDensity(num_bytes=5e8, base=2, chance_corrected=True, random_baseline=0.4),
        function=partial(intelligence_density, num_bytes=5e8, base=2, chance_corrected=True, random_baseline=0.4),
        expected=4.0,
        **ACCURACY,
    ),
    # Llama-3-8B, 66.6 % on MMLU: a gain of 0.5546667 over chance
    Case(
        build=lambda: CapabilityDensity(num_params=8e9),
        function=partial(capability_density, num_params=8e9),
        updates=[{"accuracy": 0.5, "num_examples": 10}, {"accuracy": 0.7213333333333334, "num_examples": 30}],
        whole={"accuracy": 0.666, "num_examples": 40},
        arguments={"accuracy": torch.tensor(0.666, dtype=torch.float64)},
        expected=math.exp((math.log(0.5546667 / 0.4453333) + 1.039) / 0.464) / 8,
        empty={"accuracy": 0.5, "num_examples": 0},
        undefined=[[{"accuracy": 0.25}], [{"accuracy": 0.2}], [{"accuracy": 1.0}], [{"accuracy": torch.nan}]],
    ),  # DeepSeek-V3, 37e9 active parameters and 74 GFLOP a token: 85 / (37 * 0.074)
    Case(
        build=lambda: ParameterFlopEfficiency(num_params=37e9, num_flops=74e9),
        function=partial(parameter_flop_efficiency, num_params=37e9, num_flops=74e9),
        expected=31.044558,
        bounds=(0, 100 / 37 / 0.074),
        **ACCURACY,
    ),
    # 1e6 parameters and 1e9 multiply-adds leave 40 log10 85
    Case(
        build=lambda: NetScore(num_params=1e6, num_flops=2e9),
        function=partial(net_score, num_params=1e6, num_flops=2e9),
        expected=77.176757,
        bounds=(-math.inf, 80),
        **ACCURACY,
    ),
    # 70 % at half a million examples, 85 % at a million: 15 points for half a million examples
    Case(
        build=GeneralizationEfficiency,
        function=generalization_efficiency,
        updates=[
            {"num_examples": 1_000_000, "accuracy": 0.85},
            {"num_examples": SIZES[:2], "accuracy": ACCURACIES[:2]},
        ],
        whole={"num_examples": SIZES, "accuracy": ACCURACIES},
        arguments={"num_examples": SIZES, "accuracy": ACCURACIES},
        expected=3e-5,
        empty={"num_examples": SIZES[:0], "accuracy": ACCURACIES[:0]},
        undefined=[
            [{"num_examples": 1_000_000, "accuracy": 0.85}],
            [{"num_examples": SIZES[1:], "accuracy": torch.tensor([torch.nan, 0.85])}],
            [{"num_examples": torch.tensor([600_000, 1_000_000]), "accuracy": ACCURACIES[1:]}],
        ],
    ),
]
