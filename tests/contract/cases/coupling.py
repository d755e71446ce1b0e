import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.efficiency import ACCURACY
from intensive_callbacks import ConfigurationEntropyScore, RelevanceRealizationRate
from intensive_callbacks.functional import configuration_entropy_score, relevance_realization_rate

IDS = torch.tensor([[0, 1], [2, 3], [0, -1]])

CASES = [
    # DeepSeek-V3 on a four-way test: (37 / 671) * (0.85 / 0.25)
    Case(
        build=lambda: RelevanceRealizationRate(total_params=671e9, active_params=37e9, random_baseline=0.25),
        function=partial(relevance_realization_rate, total_params=671e9, active_params=37e9, random_baseline=0.25),
        expected=0.18748137,
        bounds=(0, 37 / 671 * 4),
        **ACCURACY,
    ),
    # loads 2, 1, 1, 1 of 5: -(0.4 ln 0.4 + 0.6 ln 0.2) / ln 4
    Case(
        build=lambda: ConfigurationEntropyScore(num_experts=4),
        function=partial(configuration_entropy_score, num_experts=4),
        updates=[{"expert_ids": IDS[:1]}, {"expert_ids": IDS[1:]}],
        whole={"expert_ids": IDS},
        arguments={"expert_ids": IDS},
        expected=-(0.4 * math.log(0.4) + 0.6 * math.log(0.2)) / math.log(4),
        empty={"expert_ids": IDS[:0]},
        undefined=[[{"expert_ids": torch.full((3, 2), -1)}]],
        bounds=(0, 1),
    ),
]
