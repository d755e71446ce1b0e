from functools import partial

from contract.case import Case
from contract.cases.efficiency import ACCURACY
from intensive_callbacks import SparsityAdjustedAccuracy
from intensive_callbacks.functional import sparsity_adjusted_accuracy

CASES = [
    # 85 % with 5 % active: 0.85 times 0.95
    Case(
        build=lambda: SparsityAdjustedAccuracy(total_params=100e9, active_params=5e9),
        function=partial(sparsity_adjusted_accuracy, total_params=100e9, active_params=5e9),
        expected=0.8075,
        bounds=(0, 0.95),
        **ACCURACY,
    ),
]
