"""Ids that are kept are counted as they were, or not at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver
from intensive_callbacks.routing.kept import MAX_BYTES, NUM_TRIED
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums, reset
from routing.designs import D, K, LinearGate, Megablocks

E = 5


def forwards(num, generator, num_tokens=7):
    """Ids with unused slots and invalid ones among them."""
    return [torch.randint(-3, E + 2, (num_tokens, K), generator=generator) for _ in range(num)]


def by_hand(all_ids, masks):
    """Load, invalid ids, unused slots, tokens and expected selections, id by id."""
    sums = {"load": [0] * E, "num_invalid": 0, "num_dropped": 0, "num_tokens": 0, "num_expected": 0}
    for ids, mask in zip(all_ids, masks, strict=True):
        for token, row in enumerate(ids.tolist()):
            if mask is not None and not mask[token]:
                continue
            sums["num_tokens"] += 1
            sums["num_expected"] += K
            for expert in row:
                if 0 <= expert < E:
                    sums["load"][expert] += 1
                else:
                    sums["num_dropped" if expert == -1 else "num_invalid"] += 1
    return sums


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_kept_ids_are_counted_as_by_hand(num_layers, masked, dtype):
    generator = torch.Generator().manual_seed(0)
    layers = {str(number): RoutingStatistics(E) for number in range(num_layers)}
    given = {}
    for name, statistics in layers.items():
        given[name] = [ids.to(dtype) for ids in forwards(20 - (name == "2"), generator)]
        masks = [torch.rand(7, generator=generator) > 0.3 if masked and n % 3 else None for n in range(20)]
        for ids, mask in zip(given[name], masks, strict=False):
            statistics.count(ids, mask, K)
        given[name] = by_hand(given[name], masks[: len(given[name])])
    rows = RoutingSums.of(layers).by_layer()
    for name, expected in given.items():
        assert {key: rows[name][key].int().tolist() for key in expected} == expected


def test_kept_ids_are_dropped_by_a_reset():
    statistics = RoutingStatistics(E)
    for ids in forwards(10, torch.Generator().manual_seed(0)):
        statistics.count(ids, None, K)
    reset([statistics])
    assert not any(state.any() for state in statistics.states().values())


def test_no_more_is_kept_than_the_budget():
    statistics, ids = RoutingStatistics(E), torch.zeros(4096, K, dtype=torch.int64)
    for _ in range(200):
        statistics.count(ids.clone(), None)
        assert statistics.kept.num_bytes <= MAX_BYTES + ids.nbytes
    assert statistics.states()["load"].tolist() == [200 * ids.numel(), 0, 0, 0, 0]


def test_a_view_of_much_more_is_copied():
    statistics = RoutingStatistics(E)
    for _ in range(NUM_TRIED + 2):
        statistics.count(torch.zeros(100, 100, dtype=torch.int64)[:, :K], None)
    assert statistics.kept.num_bytes == 2 * 100 * K * 8


def test_a_mask_overwritten_before_the_count_is_invalid_not_wrong():
    statistics, mask = RoutingStatistics(E), torch.ones(7, dtype=torch.bool)
    for ids in forwards(NUM_TRIED, torch.Generator().manual_seed(0)):
        statistics.count(ids.clamp(0, E - 1), mask)
    statistics.count(torch.zeros(7, K, dtype=torch.int64), mask)
    mask.fill_(False)
    statistics.count(torch.zeros(7, K, dtype=torch.int64), torch.ones(7, dtype=torch.bool))
    states = statistics.states()
    assert int(states["load"].sum()) == (NUM_TRIED + 1) * 7 * K
    assert int(states["num_invalid"]) == 7 * K


class Overwriting(nn.Module):
    """A model that writes into the ids of its layer when the layer has run, from the ``since``-th forward on."""

    def __init__(self, since):
        super().__init__()
        self.layer = Megablocks()
        self.since, self.num_forwards = since, 0

    def forward(self, x):
        ids = []
        handle = self.layer.experts.register_forward_pre_hook(lambda _, args: ids.extend(args))
        out = self.layer(x)
        handle.remove()
        self.num_forwards += 1
        if self.num_forwards >= self.since:
            for each in ids:
                if not each.is_floating_point():
                    each.fill_(0)
        return out


@pytest.mark.parametrize("inference", [False, True])
def test_ids_that_a_model_overwrites_are_counted_before(inference):
    torch.manual_seed(0)
    model, plain = Overwriting(since=1), Overwriting(since=100)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(9, D)
    sums = []
    for each in (model, plain):
        with RouterObserver(each) as observer, torch.inference_mode(inference):
            for _ in range(8):
                each(x)
        sums.append(observer.read().packed())
    assert torch.equal(*sums)


def test_ids_overwritten_later_are_invalid_not_wrong():
    torch.manual_seed(0)
    model = Overwriting(since=8)
    observer = RouterObserver(model).attach()
    for _ in range(10):
        model(torch.randn(9, D))
    with pytest.warns(UserWarning, match="overwritten"):
        sums = observer.read().by_layer()["layer"]
    assert int(sums["num_invalid"]) == 3 * 9 * K
    observer.reset()
    for _ in range(3):
        model(torch.randn(9, D))
    assert int(observer.read().by_layer()["layer"]["load"].sum()) == 3 * 9 * K
    observer.detach()


def test_only_the_first_expert_is_hooked_after_the_proof():
    block = LinearGate()
    with RouterObserver(block):
        for _ in range(6):
            block(torch.randn(64, D))
        assert [len(expert._forward_pre_hooks) for expert in block.experts] == [1, 0, 0, 0, 0, 0]
