import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.dynamics import SWAPPED
from contract.cases.efficiency import HALVES
from intensive_callbacks import (
    ConfigurationQuality,
    CouplingQuality,
    InformationBottleneck,
    IntegratedInformation,
    MutualInformation,
    RelevanceDensity,
    ShannonEntropy,
    TaskInformation,
)
from intensive_callbacks.functional import (
    configuration_quality,
    coupling_quality,
    information_bottleneck,
    integrated_information,
    mutual_information,
    relevance_density,
    shannon_entropy,
    task_information,
)

# Counts 3, 1, 0, -: 2 - 3/4 log2 3 bits, and Miller and Madow's (2 - 1) / (2 * 4 ln 2).
LABELS = torch.tensor([0, 0, -1, 1, 0])
# z against z // 2, each of four values 100 times: one bit.
X = torch.arange(400) % 4
PAIRS = {
    "updates": [{"x": X[:130], "y": X[:130] // 2}, {"x": X[130:], "y": X[130:] // 2}],
    "whole": {"x": X, "y": X // 2},
    "arguments": {"x": X, "y": X // 2},
    "empty": {"x": X[:0], "y": X[:0]},
}
UNCOUNTED = [{"x": X, "y": torch.full_like(X, -1)}]
CONSTANT = [{"x": X, "y": torch.zeros_like(X)}]
# Labels 0, 0, 0, 1 and probabilities 3/4, 1/4: the loss is the entropy of the labels, so nothing is known. Then sure
# and right of the last: bits gained log2 4 / 4.
LOGITS = torch.tensor([[3.0, 1.0], [3.0, 1.0], [3.0, 1.0], [1e-9, 1.0]], dtype=torch.float64).log()
TARGET = torch.tensor([0, 0, 0, 1])

CASES = [
    Case(
        build=lambda: ShannonEntropy(num_values=4),
        function=partial(shannon_entropy, num_values=4),
        updates=[{"labels": LABELS[:2]}, {"labels": LABELS[2:]}],
        whole={"labels": LABELS},
        arguments={"labels": LABELS},
        expected=2 - 0.75 * math.log2(3) + 1 / (8 * math.log(2)),
        empty={"labels": LABELS[:0]},
        undefined=[[{"labels": torch.full((3, 2), -1)}]],
        bounds=(0, 2),
    ),
    Case(
        build=lambda: MutualInformation(num_x=4, num_y=2),
        function=partial(mutual_information, num_x=4, num_y=2),
        expected=1.0,
        undefined=[UNCOUNTED],
        bounds=(0, 1 + 1e-12),
        **PAIRS,
    ),
    # plain: 3 of 4 agree, twice over: H(X) = H(Y) = 1, H(X, Y) = 2 - 3/4 * log2(3) + 1
    Case(
        build=lambda: MutualInformation(num_x=2, num_y=2, correction="none"),
        function=partial(mutual_information, num_x=2, num_y=2, correction="none"),
        updates=[
            {"x": torch.tensor([0, 0, 0, 0]), "y": torch.tensor([0, 0, 0, 1])},
            {"x": torch.tensor([[1, 1], [1, 1]]), "y": torch.tensor([[0, 1], [1, 1]])},
        ],
        whole={"x": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), "y": torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])},
        arguments={"x": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), "y": torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])},
        expected=0.75 * math.log2(3) - 1,
        empty={"x": X[:0], "y": X[:0]},
        undefined=[[{"x": X % 2, "y": torch.full_like(X, -1)}]],
        bounds=(0, 1),
    ),
    Case(
        build=lambda: CouplingQuality(num_x=4, num_y=2),
        function=partial(coupling_quality, num_x=4, num_y=2),
        expected=1.0,
        undefined=[UNCOUNTED, CONSTANT],
        bounds=(0, 1 + 1e-12),
        **PAIRS,
    ),
    Case(
        build=lambda: RelevanceDensity(num_x=4, num_y=2, num_pixels=16 * 16),
        function=partial(relevance_density, num_x=4, num_y=2, num_pixels=16 * 16),
        expected=1 / 256,
        undefined=[UNCOUNTED],
        bounds=(0, 1),
        **PAIRS,
    ),
    # complete coupling times the R3 of DeepSeek-V3
    Case(
        build=lambda: ConfigurationQuality(4, 2, total_params=671e9, active_params=37e9, random_baseline=0.25),
        function=partial(
            configuration_quality, num_x=4, num_y=2, total_params=671e9, active_params=37e9, random_baseline=0.25
        ),
        updates=[*HALVES, *PAIRS["updates"]],
        whole={"accuracy": 0.85, "num_examples": 40, "x": X, "y": X // 2},
        arguments={**PAIRS["arguments"], "accuracy": torch.tensor(0.85, dtype=torch.float64)},
        expected=0.18748137,
        empty={"accuracy": 0.5, "num_examples": 0, "x": X[:0], "y": X[:0]},
        undefined=[HALVES, PAIRS["updates"], [*HALVES, *CONSTANT]],
        bounds=(0, 37 / 671 * 4),
    ),
    Case(
        build=lambda: TaskInformation(num_classes=2, num_dimensions=4),
        function=partial(task_information, num_dimensions=4),
        updates=[{"logits": LOGITS[:1], "target": TARGET[:1]}, {"logits": LOGITS[1:], "target": TARGET[1:]}],
        whole={"logits": LOGITS.reshape(2, 2, 2), "target": TARGET.reshape(2, 2)},
        arguments={"logits": LOGITS, "target": TARGET},
        expected=math.log2(4) / 4 / 4,
        empty={"logits": LOGITS[:0], "target": TARGET[:0]},
        undefined=[[{"logits": LOGITS, "target": torch.full((4,), -100)}]],
        bounds=(-math.inf, 0.25),
    ),
    # T keeps one of two bits, and it is Y: 1 - 3 * 1
    Case(
        build=lambda: InformationBottleneck(num_x=4, num_codes=2, num_y=2, beta=3.0),
        function=partial(information_bottleneck, num_x=4, num_codes=2, num_y=2, beta=3.0),
        updates=[
            {"x": X[:130], "codes": X[:130] // 2, "y": X[:130] // 2},
            {"x": X[130:], "codes": X[130:] // 2, "y": X[130:] // 2},
        ],
        whole={"x": X, "codes": X // 2, "y": X // 2},
        arguments={"x": X, "codes": X // 2, "y": X // 2},
        expected=-2.0,
        empty={"x": X[:0], "codes": X[:0], "y": X[:0]},
        undefined=[[{"x": X, "codes": torch.full_like(X, -1), "y": X // 2}]],
        bounds=(-3, 2),
    ),
    Case(
        build=lambda: IntegratedInformation(num_components=2),
        function=integrated_information,
        updates=[{"states": SWAPPED[:99]}, {"states": SWAPPED[99:]}],
        whole={"states": SWAPPED},
        arguments={"states": SWAPPED},
        expected=math.log2(1 / 0.64),
        empty={"states": SWAPPED[:0]},
        undefined=[[{"states": SWAPPED[:3]}], [{"states": torch.ones_like(SWAPPED)}]],
        bounds=(0, math.inf),
        tolerance=1e-3,
    ),
]
