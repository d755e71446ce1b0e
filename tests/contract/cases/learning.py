import torch

from contract.case import Case
from intensive_callbacks import GeneralizationEfficiency
from intensive_callbacks.functional import generalization_efficiency

SIZES = torch.tensor([250_000, 500_000, 1_000_000])
ACCURACIES = torch.tensor([0.55, 0.70, 0.85], dtype=torch.float64)

CASES = [
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
        bounds=(0, 1),
    ),
]
