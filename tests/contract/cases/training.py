import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.efficiency import ACCURACY
from intensive_callbacks import CriticalBatchSize, NetScore, ParameterFlopEfficiency, SparseRetention
from intensive_callbacks.functional import (
    critical_batch_size,
    net_score,
    parameter_flop_efficiency,
    sparse_retention,
)

# Noise 8.8 and signal 1 at batches of 4 and 32, then noise 11 and signal 0.5: averages with the first step at half
# weight (8.8 / 2 + 11) / (1 / 2 + 0.5).
SMALL = torch.tensor([1 + 8.8 / 4, 0.5 + 11 / 4], dtype=torch.float64)
LARGE = torch.tensor([1 + 8.8 / 32, 0.5 + 11 / 32], dtype=torch.float64)

SPARSE_CORRECT = torch.tensor([True, True, False, True, False, False])
DENSE_CORRECT = torch.tensor([True, True, True, False, True, False])

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
    # DeepSeek-V3, 37e9 active parameters and 74 GFLOP a token: 85 / (37 * 0.074)
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
    Case(
        build=SparseRetention,
        function=sparse_retention,
        updates=[
            {"sparse_correct": SPARSE_CORRECT[:2], "dense_correct": DENSE_CORRECT[:2]},
            {"sparse_correct": SPARSE_CORRECT[2:], "dense_correct": DENSE_CORRECT[2:]},
        ],
        whole={"sparse_correct": SPARSE_CORRECT, "dense_correct": DENSE_CORRECT},
        arguments={"sparse_correct": SPARSE_CORRECT, "dense_correct": DENSE_CORRECT},
        expected=0.75,
        empty={"sparse_correct": SPARSE_CORRECT[:0], "dense_correct": DENSE_CORRECT[:0]},
        undefined=[[{"sparse_correct": SPARSE_CORRECT, "dense_correct": torch.zeros(6, dtype=torch.bool)}]],
        bounds=(0, math.inf),
    ),
]
