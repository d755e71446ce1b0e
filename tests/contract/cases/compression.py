import math

import torch

from contract.case import Case
from intensive_callbacks import EffectiveCompressionRatio
from intensive_callbacks.functional import (
    effective_compression_ratio,
    predictive_information,
    usable_information,
)

# Two classes at 3 to 1, one way and the other: the mean is even, each row has H(1/4) = 0.811278 bits.
LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(3.0)]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])

CASES = [
    # 1 - 0.811278 bits over 20
    Case(
        build=lambda: EffectiveCompressionRatio(num_params=2**20),
        function=lambda outputs: effective_compression_ratio(predictive_information(outputs), 2**20),
        updates=[{"inputs": None, "outputs": LOGITS[:1]}, {"inputs": None, "outputs": LOGITS[1:]}],
        whole={"inputs": None, "outputs": LOGITS},
        arguments={"outputs": LOGITS},
        expected=0.188_721_9 / 20,
        empty={"inputs": None, "outputs": LOGITS[:0]},
        undefined=[[{"inputs": None, "outputs": LOGITS * math.nan}]],
        bounds=(0, 0.5),  # log2 K over 20, of 1024 classes at most
    ),
    # the right class has 3/4: 1 - log2(4/3) bits over 20
    Case(
        build=lambda: EffectiveCompressionRatio(num_params=2**20, estimator="usable", num_classes=2),
        function=lambda outputs, labels: effective_compression_ratio(usable_information(outputs, labels), 2**20),
        updates=[
            {"inputs": None, "outputs": LOGITS[1:], "labels": LABELS[1:]},
            {"inputs": None, "outputs": LOGITS[:1], "labels": LABELS[:1]},
        ],
        whole={"inputs": None, "outputs": LOGITS, "labels": LABELS},
        arguments={"outputs": LOGITS, "labels": LABELS},
        expected=0.584_962_5 / 20,
        empty={"inputs": None, "outputs": LOGITS[:0], "labels": LABELS[:0]},
        undefined=[[{"inputs": None, "outputs": LOGITS, "labels": torch.tensor([-100, -100])}]],
        bounds=(-math.inf, 0.5),
    ),
]
