"""The sums of all layers in one piece, against the accumulators of each layer and against counting by hand."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from torch import nn

from intensive_callbacks import RouterObserver, RouterSample
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums, reset
from routing.designs import D, E, K, LinearGate


def filled(widths, seed=0):
    """Layers of these numbers of experts, each with a sample of its own."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for number, num_experts in enumerate(widths):
        layers[f"layer{number}"] = statistics = RoutingStatistics(num_experts)
        ids = torch.randint(-1, num_experts, (20 + number, 2), generator=generator)
        logits = torch.randn(20 + number, num_experts, generator=generator)
        statistics.observe(RouterSample("", num_experts, expert_ids=ids, weights=torch.ones_like(ids), logits=logits))
    return layers


def assert_equal(sums, layers):
    found = sums.by_layer()
    assert list(found) == list(layers) == list(sums.layers)
    for name, statistics in layers.items():
        states = statistics.states()
        assert found[name].keys() == states.keys()
        assert all(torch.equal(found[name][key], state.double()) for key, state in states.items())


def test_rows_are_those_of_the_layers_in_order_of_depth():
    layers = filled([4, 6, 4, 3])
    sums = RoutingSums.of(layers)
    assert [(group.layers, group.num_experts) for group in sums.groups] == [
        (("layer0", "layer2"), 4),
        (("layer1",), 6),
        (("layer3",), 3),
    ]
    assert sums.num_tokens == 20 + 21 + 22 + 23
    assert_equal(sums, layers)


def test_what_is_read_is_a_copy():
    layers = filled([4, 4])
    sums = RoutingSums.of(layers)
    kept = sums.packed().clone()
    reset(layers.values())
    assert torch.equal(sums.packed(), kept)
    assert not RoutingSums.of(layers).packed().any()


def test_packed_sums_add_up():
    """As two processes add them up."""
    first, second = filled([4, 6, 4], seed=1), filled([4, 6, 4], seed=2)
    added = RoutingSums.of(first).with_packed(RoutingSums.of(first).packed() + RoutingSums.of(second).packed())
    for name, states in added.by_layer().items():
        for key, state in states.items():
            expected = first[name].states()[key].double() + second[name].states()[key].double()
            torch.testing.assert_close(state, expected, rtol=1e-15, atol=0)


def test_write_overwrites_in_place():
    layers, others = filled([4, 6, 4], seed=1), filled([4, 6, 4], seed=2)
    places = [state.data_ptr() for each in others.values() for state in each.states().values()]
    RoutingSums.of(layers).write(others)
    assert_equal(RoutingSums.of(layers), others)
    assert [state.data_ptr() for each in others.values() for state in each.states().values()] == places


def test_no_layers():
    sums = RoutingSums.of({})
    assert not sums
    assert (sums.num_tokens, sums.by_layer(), sums.packed().numel()) == (0, {}, 0)
    assert RoutingSums.of(filled([4]))


def test_sums_read_in_inference_mode_are_added_to_outside():
    layers = filled([4])
    with torch.inference_mode():
        sums = RoutingSums.of(layers)
    sums.groups[0].values.add_(1)


IDS = torch.tensor([[0, 4], [1, 1], [-2, -1], [3, 999], [-999, 2**31 - 1], [2, -1]])


@pytest.mark.parametrize("device", ["cpu", "other"])
@pytest.mark.parametrize("mask", [None, torch.tensor([True, True, True, True, False, True])])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_invalid_ids_are_counted_apart(monkeypatch, device, mask, dtype):
    statistics = RoutingStatistics(4)
    if device == "other":  # the operators of a GPU, run on the CPU
        monkeypatch.setattr(statistics, "device", torch.device("meta"))
    sample = RouterSample(
        "", 4, expert_ids=IDS.to(dtype), weights=torch.ones(6, 2), logits=torch.zeros(6, 4), mask=mask
    )
    statistics.observe(sample)
    states = statistics.states()
    rows = [
        row for row, used in zip(IDS.tolist(), mask.tolist() if mask is not None else [True] * 6, strict=True) if used
    ]
    counts = Counter(e for row in rows for e in row)
    assert states["load"].tolist() == [counts[e] for e in range(4)]
    assert int(states["num_dropped"]) == counts[-1] == 2
    assert int(states["num_invalid"]) == sum(n for e, n in counts.items() if not -1 <= e < 4)
    assert states["importance"].tolist() == [counts[e] for e in range(4)]


def test_ids_from_one_warn_once_and_name_the_router():
    model = nn.Sequential(LinearGate(), LinearGate())
    readers = {"0.gate": lambda _, out: {"expert_ids": out.topk(K).indices + 1}}
    readers["1.gate"] = lambda _, out: {"expert_ids": out.topk(K).indices}
    ids = []
    model[0].gate.register_forward_hook(lambda _, __, out: ids.append(out.topk(K).indices))
    with RouterObserver(model, routers=readers) as observer:
        model(torch.randn(30, D))
        num_last = int((ids[0] == E - 1).sum())
        expected = rf"the router of layer '0.gate' gave {num_last} expert ids outside \[-1, {E}\)"
        with pytest.warns(UserWarning, match=expected) as caught:
            sums = observer.read().by_layer()
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            observer.read()
    assert int(sums["0.gate"]["num_invalid"]) == num_last > 0
    assert int(sums["0.gate"]["num_dropped"]) == 0
    assert sums["0.gate"]["load"].tolist() == [int((ids[0] == e - 1).sum()) for e in range(E)]
    assert int(sums["1.gate"]["num_invalid"]) == 0
