import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.efficiency import ACCURACY
from intensive_callbacks import CapabilityDensity, IntelligenceDensity
from intensive_callbacks.functional import capability_density, intelligence_density

CASES = [
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
    ),
]
