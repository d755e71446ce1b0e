import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.efficiency import HALVES
from intensive_callbacks import (
    ConfigurationQuality,
    CouplingQuality,
    MutualInformation,
    RelevanceDensity,
    ShannonEntropy,
)
from intensive_callbacks.functional import (
    configuration_quality,
    coupling_quality,
    discrete_mutual_information,
    relevance_density,
    shannon_entropy,
)

# Counts 3, 1, 0, -: 2 - 3/4 log2 3 bits, and Miller and Madow's (2 - 1) / (2 * 4 ln 2).
LABELS = torch.tensor([0, 0, -1, 1, 0])
# z against z // 2, each of four values 100 times: one bit.
X = torch.arange(400) % 4
PAIRS = {
    "updates": [{"x": X[:130], "y": X[:130] // 2}, {"x": X[130:], "y": X[130:] // 2}],
    "whole": {"x": X, "y": X // 2},
    "arguments": {"counts": torch.tensor([[100, 0], [100, 0], [0, 100], [0, 100]])},
    "empty": {"x": X[:0], "y": X[:0]},
}
UNCOUNTED = [{"x": X, "y": torch.full_like(X, -1)}]
CONSTANT = [{"x": X, "y": torch.zeros_like(X)}]

CASES = [
    Case(
        build=lambda: ShannonEntropy(num_values=4),
        function=shannon_entropy,
        updates=[{"labels": LABELS[:2]}, {"labels": LABELS[2:]}],
        whole={"labels": LABELS},
        arguments={"counts": torch.tensor([3, 1, 0, 0])},
        expected=2 - 0.75 * math.log2(3) + 1 / (8 * math.log(2)),
        empty={"labels": LABELS[:0]},
        undefined=[[{"labels": torch.full((3, 2), -1)}]],
        bounds=(0, 2),
    ),
    Case(
        build=lambda: MutualInformation(num_x=4, num_y=2),
        function=discrete_mutual_information,
        expected=1.0,
        undefined=[UNCOUNTED],
        bounds=(0, 1 + 1e-12),
        **PAIRS,
    ),
    # plain: 3 of 4 agree, twice over: H(X) = H(Y) = 1, H(X, Y) = 2 - 3/4 * log2(3) + 1
    Case(
        build=lambda: MutualInformation(num_x=2, num_y=2, correction="none"),
        function=partial(discrete_mutual_information, correction="none"),
        updates=[
            {"x": torch.tensor([0, 0, 0, 0]), "y": torch.tensor([0, 0, 0, 1])},
            {"x": torch.tensor([[1, 1], [1, 1]]), "y": torch.tensor([[0, 1], [1, 1]])},
        ],
        whole={"x": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), "y": torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])},
        arguments={"counts": torch.tensor([[3, 1], [1, 3]])},
        expected=0.75 * math.log2(3) - 1,
        empty={"x": X[:0], "y": X[:0]},
        undefined=[[{"x": X % 2, "y": torch.full_like(X, -1)}]],
        bounds=(0, 1),
    ),
    Case(
        build=lambda: CouplingQuality(num_x=4, num_y=2),
        function=coupling_quality,
        expected=1.0,
        undefined=[UNCOUNTED, CONSTANT],
        bounds=(0, 1 + 1e-12),
        **PAIRS,
    ),
    Case(
        build=lambda: RelevanceDensity(num_x=4, num_y=2, num_pixels=16 * 16),
        function=partial(relevance_density, num_pixels=16 * 16),
        expected=1 / 256,
        undefined=[UNCOUNTED],
        bounds=(0, 1),
        **PAIRS,
    ),
    # complete coupling times the R3 of DeepSeek-V3
    Case(
        build=lambda: ConfigurationQuality(4, 2, total_params=671e9, active_params=37e9, random_baseline=0.25),
        function=partial(configuration_quality, total_params=671e9, active_params=37e9, random_baseline=0.25),
        updates=[*HALVES, *PAIRS["updates"]],
        whole={"accuracy": 0.85, "num_examples": 40, "x": X, "y": X // 2},
        arguments={**PAIRS["arguments"], "accuracy": torch.tensor(0.85, dtype=torch.float64)},
        expected=0.18748137,
        empty={"accuracy": 0.5, "num_examples": 0, "x": X[:0], "y": X[:0]},
        undefined=[HALVES, PAIRS["updates"], [*HALVES, *CONSTANT]],
        bounds=(0, 37 / 671 * 4),
    ),
]
