import math
from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import CriticalBatchSize
from intensive_callbacks.functional import critical_batch_size

# Noise 8.8 and signal 1 at batches of 4 and 32, then noise 11 and signal 0.5: averages with the first step at half
# weight (8.8 / 2 + 11) / (1 / 2 + 0.5).
SMALL = torch.tensor([1 + 8.8 / 4, 0.5 + 11 / 4], dtype=torch.float64)
LARGE = torch.tensor([1 + 8.8 / 32, 0.5 + 11 / 32], dtype=torch.float64)

CASES = [
    Case(
        build=lambda: CriticalBatchSize(small_batch_size=4, large_batch_size=32, decay=0.5),
        function=partial(critical_batch_size, small_batch_size=4, large_batch_size=32, decay=0.5),
        updates=[
            {"small_norm_squared": SMALL[0], "large_norm_squared": LARGE[0]},
            {"small_norm_squared": SMALL[1].item(), "large_norm_squared": LARGE[1].item()},
        ],
        whole={"small_norm_squared": SMALL, "large_norm_squared": LARGE},
        arguments={"small_norm_squared": SMALL, "large_norm_squared": LARGE},
        expected=15.4,
        empty={"small_norm_squared": SMALL[:0], "large_norm_squared": LARGE[:0]},
        undefined=[[{"small_norm_squared": 40.0, "large_norm_squared": 1.0}]],
        bounds=(0, math.inf),
        ordered=True,
    ),
]
