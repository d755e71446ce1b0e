import math

import torch

from contract.case import Case
from intensive_callbacks import QueryContentCoupling, SalienceDivergence
from intensive_callbacks.functional import query_content_coupling, salience_divergence

RELEVANCE = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
TOKENS = torch.tensor([[1.0, 0.0, 2.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
CONSTANT = torch.full((4,), 576.0)
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

CASES = [
    # sums of squares 10 and 10 around the means 1.5, of products 4 and 0
    Case(
        build=QueryContentCoupling,
        function=query_content_coupling,
        updates=[
            {"relevance": RELEVANCE[:1], "token_budgets": TOKENS[:1]},
            {"relevance": RELEVANCE[1], "token_budgets": TOKENS[1]},
        ],
        whole={"relevance": RELEVANCE, "token_budgets": TOKENS},
        arguments={"relevance": RELEVANCE, "token_budgets": TOKENS},
        expected=0.4,
        empty={"relevance": RELEVANCE[:0], "token_budgets": TOKENS[:0]},
        undefined=[
            [{"relevance": RELEVANCE[0], "token_budgets": CONSTANT}],
            [{"relevance": 0.1 * CONSTANT, "token_budgets": TOKENS[0]}],
            [{"relevance": RELEVANCE[0, :1], "token_budgets": TOKENS[0, :1]}],
            [{"relevance": RELEVANCE[0, :2], "token_budgets": torch.tensor([1.0, math.nan])}],
        ],
        bounds=(-1, 1),
    ),
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
]
