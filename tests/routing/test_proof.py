"""What is read is what the experts computed, whatever else a layer selects, returns or drops."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver
from intensive_callbacks.functional import routing_coverage_compute
from routing.kinds import KINDS, D, LoggedAfter, LoggedInTraining, TwoPicks


@pytest.mark.parametrize("sampling", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_load_and_drops_are_those_of_the_experts(kind, sampling):
    torch.manual_seed(0)
    block = kind()
    with RouterObserver(nn.ModuleDict({"layer": block})) as observer:
        observer.sampling = sampling
        for length in (12, 9, 12, 20):
            block.pairs, block.num_dropped = [], 0
            observer.reset()
            block(torch.randn(3, length, D))
            states = observer.read().by_layer()["layer"]
            assert states["load"].tolist() == block.load
            assert int(states["num_dropped"]) == block.num_dropped
            assert int(states["num_tokens"]) == 3 * length
            coverage = routing_coverage_compute(states["load"], states["num_dropped"], states["num_expected"])
            assert torch.isnan(coverage) or coverage == 1


@pytest.mark.parametrize("kind", [LoggedInTraining, LoggedAfter, TwoPicks], ids=lambda kind: kind.__name__)
def test_each_mode_has_a_reading_of_its_own(kind):
    torch.manual_seed(0)
    block = kind()
    with RouterObserver(nn.ModuleDict({"layer": block})) as observer:
        observer.sampling = False
        for training in (True, True, True, False, False, False, True, False):
            block.train(training)
            block.pairs = []
            observer.reset()
            block(torch.randn(3, 12, D))
            assert observer.read().by_layer()["layer"]["load"].tolist() == block.load
