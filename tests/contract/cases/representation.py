import math

import torch

from contract.case import Case
from intensive_callbacks import EffectiveDimensionality, LayerwiseMean
from intensive_callbacks.functional import effective_dimensionality, layerwise_mean

# Variances 2 : 1 : 1 along three axes of four: a spectrum of 1/2, 1/4, 1/4 and 0.
AXES = torch.diag(torch.tensor([math.sqrt(2), 1.0, 1.0, 0.0], dtype=torch.float64))[:3]
FEATURES = torch.cat([AXES, -AXES])
LAYERS = torch.tensor([[0.1, 0.2, 0.6], [0.3, 0.2, 0.4]], dtype=torch.float64)

CASES = [
    Case(
        build=lambda: EffectiveDimensionality(num_features=4),
        function=effective_dimensionality,
        updates=[{"features": FEATURES[:1]}, {"features": FEATURES[1:].reshape(1, 5, 4)}],
        whole={"features": FEATURES},
        arguments={"features": FEATURES},
        expected=2**1.5,
        empty={"features": FEATURES[:0]},
        undefined=[[{"features": FEATURES[:1]}], [{"features": torch.ones(5, 4)}]],
        bounds=(1, 8),  # of the most features that are tried
    ),
    # the same in two sequences of three tokens
    Case(
        build=lambda: EffectiveDimensionality(num_features=4, per_token=True),
        function=lambda features: effective_dimensionality(features, per_token=True),
        updates=[{"features": FEATURES[:3].unsqueeze(0)}, {"features": FEATURES[3:].unsqueeze(0)}],
        whole={"features": FEATURES.reshape(2, 3, 4)},
        arguments={"features": FEATURES.reshape(2, 3, 4)},
        expected=2**1.5 / 3,
        empty={"features": FEATURES[:0].reshape(0, 3, 4)},
        undefined=[[{"features": torch.ones(1, 5, 4)}]],
        bounds=(0, 8),
    ),
    Case(
        build=lambda: LayerwiseMean(num_layers=3),
        function=lambda values: layerwise_mean(values).mean(),
        updates=[{"values": LAYERS[0]}, {"values": LAYERS[1:]}],
        whole={"values": LAYERS},
        arguments={"values": LAYERS},
        expected=0.3,
        empty={"values": LAYERS[:0]},
        undefined=[[{"values": torch.tensor([0.1, math.nan, 0.2])}]],
    ),
]
