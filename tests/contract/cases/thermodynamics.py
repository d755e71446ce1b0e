import math
from functools import partial

import torch

from contract.case import Case
from contract.cases.efficiency import ACCURACY
from intensive_callbacks import FreeEnergy, LandauerRatio, OrderParameter
from intensive_callbacks.functional import free_energy, landauer_ratio, order_parameter

# One spin in fields of 1/2 and 2 at temperature 2: F = -2 ln(2 cosh(h / 2)).
ENERGIES = torch.tensor([[0.5, -0.5], [2.0, -2.0]], dtype=torch.float64)

CASES = [
    Case(
        build=lambda: FreeEnergy(temperature=2.0),
        function=lambda energies: free_energy(energies, temperature=2.0).mean(),
        updates=[{"energies": ENERGIES[0]}, {"energies": ENERGIES[1:]}],
        whole={"energies": ENERGIES},
        arguments={"energies": ENERGIES},
        expected=-math.log(2 * math.cosh(0.25)) - math.log(2 * math.cosh(1.0)),
        empty={"energies": ENERGIES[:0]},
        undefined=[[{"energies": torch.tensor([math.nan, 1.0])}]],
    ),
    Case(
        build=lambda: OrderParameter(random_baseline=0.25),
        function=partial(order_parameter, random_baseline=0.25),
        expected=0.6,
        bounds=(-0.25, 0.75),
        **ACCURACY,
    ),
    Case(
        build=lambda: OrderParameter(random_baseline=0.25, chance_corrected=True),
        function=partial(order_parameter, random_baseline=0.25, chance_corrected=True),
        expected=0.8,
        bounds=(-1 / 3, 1),
        **ACCURACY,
    ),
    # a step of 2e6 tokens at 1e9 parameters: 6ND at 40 % of 312 TFLOP/s and 400 W, over one erasure of 32e9 bits
    Case(
        build=LandauerRatio,
        function=landauer_ratio,
        updates=[{"joules": 20_000.0, "bits_erased": 8e9}, {"joules": 18_461.538461538461, "bits_erased": 24e9}],
        whole={"joules": 38_461.538461538461, "bits_erased": 32e9},
        arguments={"joules": torch.tensor(38_461.538461538461, dtype=torch.float64), "bits_erased": torch.tensor(32e9)},
        expected=4.18645738974e14,
        empty={"joules": 0.0, "bits_erased": 0.0},
        undefined=[[{"joules": 5.0, "bits_erased": 0.0}]],
        bounds=(0, math.inf),
    ),
]
