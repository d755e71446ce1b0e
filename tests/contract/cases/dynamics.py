import math
from functools import partial

import torch

from contract.case import Case
from intensive_callbacks import GaussianTransferEntropy, TransferEntropy
from intensive_callbacks.functional import gaussian_transfer_entropy, transfer_entropy

# Four steps from each state, the next being the source's: a bit each. Series of two: one step each.
NOW = torch.tensor([0, 0, 1, 1]).repeat(100)
SOURCE = torch.tensor([0, 1, 0, 1]).repeat(100)
PAIRS = {"source": torch.stack([SOURCE, SOURCE], -1), "target": torch.stack([NOW, SOURCE], -1)}


def signs(num):
    """Every combination of num signs, as columns of mean 0 that are uncorrelated."""
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * num)


def repeated(steps):
    return steps.repeat(4000, 1, 1)


# y' = 0.8 x + e and unit variances, whatever y is: ln(1.64) / 2 nats, and y tells nothing of itself.
X, Y, NOISE = signs(3).T
COUPLED = {
    "source": repeated(torch.stack([X, X], -1).unsqueeze(-1)),
    "target": repeated(torch.stack([Y, 0.8 * X + NOISE], -1).unsqueeze(-1)),
}
# Two components that swap at 0.6: both covariances 1 / (1 - 0.36), so ln(1 / 0.64) nats.
A, B, C, D = signs(4).T
SWAPPED = repeated(torch.stack([torch.stack([A, B], -1), torch.stack([0.6 * B + 0.8 * C, 0.6 * A + 0.8 * D], -1)], 1))

CASES = [
    Case(
        build=lambda: TransferEntropy(num_source=2, num_target=2),
        function=partial(transfer_entropy, num_source=2, num_target=2),
        updates=[
            {name: series[:150] for name, series in PAIRS.items()},
            {name: series[150:] for name, series in PAIRS.items()},
        ],
        whole=PAIRS,
        arguments=PAIRS,
        expected=1.0,
        empty={name: series[:0] for name, series in PAIRS.items()},
        undefined=[[{"source": PAIRS["source"], "target": torch.full_like(PAIRS["target"], -1)}]],
        bounds=(0, 1 + 1e-12),
    ),
    Case(
        build=lambda: GaussianTransferEntropy(num_source=1, num_target=1),
        function=gaussian_transfer_entropy,
        updates=[
            {name: series[:99] for name, series in COUPLED.items()},
            {name: series[99:] for name, series in COUPLED.items()},
        ],
        whole=COUPLED,
        arguments=COUPLED,
        expected=math.log2(1.64) / 2,
        empty={name: series[:0] for name, series in COUPLED.items()},
        undefined=[
            [{name: series[:3] for name, series in COUPLED.items()}],
            [{"source": COUPLED["source"], "target": torch.ones_like(COUPLED["target"])}],
            [{"source": COUPLED["source"], "target": COUPLED["source"]}],
        ],
        bounds=(0, math.inf),
        tolerance=1e-3,
    ),
]
