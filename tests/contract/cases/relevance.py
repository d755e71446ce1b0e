import math
from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import InformationBottleneck, SalienceDivergence, TaskInformation
from intensive_callbacks.functional import information_bottleneck, salience_divergence, task_information

HUMAN = torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64)
EVEN = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
MAPS = {
    "updates": [{"human": HUMAN[:1], "model": EVEN[:1]}, {"human": HUMAN[1], "model": EVEN[1]}],
    "whole": {"human": HUMAN, "model": EVEN},
    "arguments": {"human": HUMAN, "model": EVEN},
    "empty": {"human": HUMAN[:0], "model": EVEN[:0]},
    "undefined": [
        [{"human": torch.zeros(1, 2), "model": EVEN[:1]}],
        [{"human": torch.tensor([1.0, -1.0]), "model": EVEN[0]}],
    ],
}
KL = (0.9 * math.log(1.8) + 0.1 * math.log(0.2)) / 2
JENSEN_SHANNON = (0.9 * math.log(9 / 7) + 0.1 * math.log(1 / 3) + 0.5 * math.log(5 / 7) + 0.5 * math.log(5 / 3)) / 4

# Labels 0, 0, 0, 1 and probabilities 3/4, 1/4: the loss is the entropy of the labels, so nothing is known. Then sure
# and right of the last: bits gained log2 4 / 4.
LOGITS = torch.tensor([[3.0, 1.0], [3.0, 1.0], [3.0, 1.0], [1e-9, 1.0]], dtype=torch.float64).log()
TARGET = torch.tensor([0, 0, 0, 1])
X = torch.arange(400) % 4

CASES = [
    Case(
        build=SalienceDivergence,
        function=lambda human, model: salience_divergence(human, model).mean(),
        expected=KL,
        bounds=(0, math.inf),
        **MAPS,
    ),
    Case(
        build=lambda: SalienceDivergence(divergence="jensen_shannon"),
        function=lambda human, model: salience_divergence(human, model, divergence="jensen_shannon").mean(),
        expected=JENSEN_SHANNON,
        bounds=(0, math.log(2)),
        **MAPS,
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
        function=partial(information_bottleneck, beta=3.0),
        updates=[
            {"x": X[:130], "codes": X[:130] // 2, "y": X[:130] // 2},
            {"x": X[130:], "codes": X[130:] // 2, "y": X[130:] // 2},
        ],
        whole={"x": X, "codes": X // 2, "y": X // 2},
        arguments={
            "input_counts": torch.tensor([[100, 0], [100, 0], [0, 100], [0, 100]]),
            "target_counts": torch.tensor([[200, 0], [0, 200]]),
        },
        expected=-2.0,
        empty={"x": X[:0], "codes": X[:0], "y": X[:0]},
        undefined=[[{"x": X, "codes": torch.full_like(X, -1), "y": X // 2}]],
        bounds=(-3, 2),
    ),
]
