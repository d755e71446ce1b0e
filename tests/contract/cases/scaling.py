from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import ChinchillaOptimalityIndex
from intensive_callbacks.functional import chinchilla_optimality_index

CASES = [
    # GPT-3: (175 / 300) / (1 / 20)
    Case(
        build=lambda: ChinchillaOptimalityIndex(num_params=175e9),
        function=partial(chinchilla_optimality_index, 175e9),
        updates=[{"num_tokens": 100_000_000_000}, {"num_tokens": torch.tensor([150_000_000_000, 50_000_000_000])}],
        whole={"num_tokens": 300_000_000_000},
        arguments={"num_tokens": torch.tensor(300_000_000_000)},
        expected=11.666_666_7,
        empty={"num_tokens": 0},
        bounds=(0, float("inf")),
    ),
]
