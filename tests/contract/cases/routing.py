import math
from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import functional, metrics

# Four experts, two slots per token. Loads 3, 2, 1, 1; one selection of eight dropped.
IDS = torch.tensor([[0, 1], [0, 1], [0, 2], [3, -1]])
NOTHING = torch.full((2, 2), -1)
NO_EXPERT = torch.tensor([[0, 7]])
COUNTS = {
    "updates": [{"expert_ids": IDS[:1]}, {"expert_ids": IDS[1:]}],
    "whole": {"expert_ids": IDS},
    "arguments": {"expert_ids": IDS},
    "empty": {"expert_ids": IDS[:0]},
}
LOADS = {**COUNTS, "undefined": [[{"expert_ids": NOTHING}], [{"expert_ids": IDS}, {"expert_ids": NO_EXPERT}]]}
LOAD_ENTROPY = -sum(c / 7 * math.log(c / 7) for c in (3, 2, 1, 1))

# One token is certain, one halves, two are undecided: sum of H is 0 + ln 2 + 2 ln 4 = 5 ln 2.
P = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0.25] * 4])
# Logits, rows that sum to 2, negative ones, a NaN.
IMPROBABLE = [3 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), 2 * P, 2 * P - 0.25, P * math.nan]
SCORES = {
    "updates": [{"probabilities": P[:1]}, {"probabilities": P[1:]}],
    "whole": {"probabilities": P},
    "arguments": {"probabilities": P},
    "empty": {"probabilities": P[:0]},
    "undefined": [[{"probabilities": P}, {"probabilities": rows}] for rows in IMPROBABLE],
}
BOTH = {
    "updates": [{"expert_ids": IDS[:1], "probabilities": P[:1]}, {"expert_ids": IDS[1:], "probabilities": P[1:]}],
    "whole": {"expert_ids": IDS, "probabilities": P},
    "arguments": {"expert_ids": IDS, "probabilities": P},
    "empty": {"expert_ids": IDS[:0], "probabilities": P[:0]},
    "undefined": [
        *[[{"expert_ids": IDS, "probabilities": rows}] for rows in IMPROBABLE],
        [{"expert_ids": NO_EXPERT, "probabilities": P[:1]}],
        [{"expert_ids": IDS, "probabilities": P}, {"expert_ids": NO_EXPERT, "probabilities": P[:1]}],
    ],
}
# logsumexp of [ln 1, ln 1, ln 1, ln 1] is ln 4, of four times ln 2 it is ln 8.
LOGITS = torch.tensor([[0.0] * 4, [math.log(2)] * 4])
FIVE = torch.tensor([[0, 1], [2, 3], [0, -1]])

CASES = [
    # the greatest over the mean: 3 / (7/4) - 1
    Case(
        build=lambda: metrics.MaxViolation(num_experts=4),
        function=partial(functional.max_violation, num_experts=4),
        expected=5 / 7,
        bounds=(0, 3),
        **LOADS,
    ),
    # shares times E: 12/7, 8/7, 4/7, 4/7; deviations from 1: 5, 1, -3, -3 sevenths
    Case(
        build=lambda: metrics.LoadVariation(num_experts=4),
        function=partial(functional.load_variation, num_experts=4),
        expected=(25 + 1 + 9 + 9) / 49 / 4,
        bounds=(0, 3),
        **LOADS,
    ),
    Case(
        build=lambda: metrics.DeadExperts(num_experts=5),
        function=partial(functional.dead_experts, num_experts=5),
        expected=1 / 5,
        bounds=(0, 0.8),
        **LOADS,
    ),
    Case(
        build=lambda: metrics.EffectiveExperts(num_experts=4),
        function=partial(functional.effective_experts, num_experts=4),
        expected=math.exp(LOAD_ENTROPY),
        bounds=(1, 4),
        **LOADS,
    ),
    Case(
        build=lambda: metrics.DropRate(num_experts=4),
        function=partial(functional.drop_rate, num_experts=4),
        expected=1 / 8,
        bounds=(0, 1),
        **COUNTS,
    ),
    # every token that entered has its selections
    Case(
        build=lambda: metrics.RoutingCoverage(num_experts=4),
        function=partial(functional.routing_coverage, num_experts=4),
        expected=1.0,
        bounds=(0, math.inf),
        **COUNTS,
    ),
    # entropies over ln 4: (0 + 1/2 + 1 + 1) / 4
    Case(
        build=lambda: metrics.ConditionalRoutingEntropy(num_experts=4),
        function=functional.conditional_routing_entropy,
        expected=5 / 8,
        bounds=(0, 1),
        **SCORES,
    ),
    # P = 1/2, 1/4, 1/8, 1/8 has 1.75 bits; the mean of 0, 1, 2, 2 bits is 1.25
    Case(
        build=lambda: metrics.ExpertSpecialization(num_experts=4),
        function=functional.expert_specialization,
        expected=0.5,
        bounds=(0, 2),
        **SCORES,
    ),
    Case(
        build=lambda: metrics.RouterMargin(num_experts=4),
        function=functional.router_margin,
        expected=1 / 4,
        bounds=(0, 1),
        **SCORES,
    ),
    Case(
        build=lambda: metrics.RouterZ(num_experts=4),
        function=functional.router_z,
        updates=[{"logits": LOGITS[:1]}, {"logits": LOGITS[1:]}],
        whole={"logits": LOGITS},
        arguments={"logits": LOGITS},
        expected=(4 + 9) / 2 * math.log(2) ** 2,
        empty={"logits": LOGITS[:0]},
        bounds=(0, math.inf),
        tolerance=1e-3,
    ),
    # 1 + 1 + 1/2 + 1/4
    Case(
        build=lambda: metrics.RoutingConfidence(num_experts=4),
        function=functional.routing_confidence,
        expected=2.75 / 4,
        bounds=(0, 1),
        **BOTH,
    ),
    # 4 (3/7 1/2 + 2/7 1/4 + 1/7 1/8 + 1/7 1/8)
    Case(
        build=lambda: metrics.SwitchBalance(num_experts=4),
        function=functional.switch_balance,
        expected=4 * (3 / 14 + 2 / 28 + 2 / 56),
        bounds=(0, 4),
        **{**BOTH, "undefined": [*BOTH["undefined"], [{"expert_ids": NOTHING, "probabilities": P[:2]}]]},
    ),
    # 2/2, 1/2, 1/2, 1/2
    Case(
        build=metrics.RouterSaturation,
        function=functional.router_saturation,
        updates=[
            {"expert_ids": IDS[:1], "reference_ids": torch.tensor([[1, 0]])},
            {"expert_ids": IDS[1:], "reference_ids": torch.tensor([[1, 2], [0, 1], [3, -1]])},
        ],
        whole={"expert_ids": IDS, "reference_ids": torch.tensor([[1, 0], [1, 2], [0, 1], [3, -1]])},
        arguments={"expert_ids": IDS, "reference_ids": torch.tensor([[1, 0], [1, 2], [0, 1], [3, -1]])},
        expected=2.5 / 4,
        empty={"expert_ids": IDS[:0], "reference_ids": IDS[:0]},
        bounds=(0, 1),
    ),
    Case(
        build=lambda: metrics.ExpertCoactivation(num_experts=4),
        function=partial(functional.expert_coactivation, num_experts=4),
        expected=[[1, 2 / 3, 1 / 3, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]],
        bounds=(0, 1),
        undefined=[[{"expert_ids": NOTHING}]],
        **COUNTS,
    ),
    # loads 2, 1, 1, 1 of 5: -(0.4 ln 0.4 + 0.6 ln 0.2) / ln 4
    Case(
        build=lambda: metrics.ConfigurationEntropyScore(num_experts=4),
        function=partial(functional.configuration_entropy_score, num_experts=4),
        updates=[{"expert_ids": FIVE[:1]}, {"expert_ids": FIVE[1:]}],
        whole={"expert_ids": FIVE},
        arguments={"expert_ids": FIVE},
        expected=-(0.4 * math.log(0.4) + 0.6 * math.log(0.2)) / math.log(4),
        empty={"expert_ids": FIVE[:0]},
        undefined=[[{"expert_ids": torch.full((3, 2), -1)}]],
        bounds=(0, 1),
    ),  # loads 2, 1, 1, 1 of 5: -(0.4 ln 0.4 + 0.6 ln 0.2) / ln 4
    Case(
        build=lambda: metrics.LoadEntropy(num_experts=4),
        function=partial(functional.configuration_entropy_score, num_experts=4),
        updates=[{"expert_ids": FIVE[:1]}, {"expert_ids": FIVE[1:]}],
        whole={"expert_ids": FIVE},
        arguments={"expert_ids": FIVE},
        expected=-(0.4 * math.log(0.4) + 0.6 * math.log(0.2)) / math.log(4),
        empty={"expert_ids": FIVE[:0]},
        undefined=[[{"expert_ids": torch.full((3, 2), -1)}]],
        bounds=(0, 1),
    ),
]
