import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.efficiency import ACCURACY
from intensive_callbacks import RelevanceRealizationRate, SparseRetention, SparsityAdjustedAccuracy
from intensive_callbacks.functional import relevance_realization_rate, sparse_retention, sparsity_adjusted_accuracy

SPARSE_CORRECT = torch.tensor([True, True, False, True, False, False])
DENSE_CORRECT = torch.tensor([True, True, True, False, True, False])

CASES = [
    # DeepSeek-V3 on a four-way test: (37 / 671) * (0.85 / 0.25)
    Case(
        build=lambda: RelevanceRealizationRate(total_params=671e9, active_params=37e9, random_baseline=0.25),
        function=partial(relevance_realization_rate, total_params=671e9, active_params=37e9, random_baseline=0.25),
        expected=0.18748137,
        bounds=(0, 37 / 671 * 4),
        **ACCURACY,
    ),
    # 85 % with 5 % active: 0.85 times 0.95
    Case(
        build=lambda: SparsityAdjustedAccuracy(total_params=100e9, active_params=5e9),
        function=partial(sparsity_adjusted_accuracy, total_params=100e9, active_params=5e9),
        expected=0.8075,
        bounds=(0, 0.95),
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
