import math

import torch

from contract.case import Case
from intensive_callbacks import QueryContentCoupling
from intensive_callbacks.functional import query_content_coupling

RELEVANCE = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
TOKENS = torch.tensor([[1.0, 0.0, 2.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
CONSTANT = torch.full((4,), 576.0)

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
]
