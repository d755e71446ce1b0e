"""What a run keeps of its past is bounded, and comes back from a checkpoint to the bit."""

import io

import pytest
import torch

from intensive_callbacks.functional import generalization_efficiency
from intensive_callbacks.monitor.facts import ModelFacts
from intensive_callbacks.monitor.history import Heatmap, History
from intensive_callbacks.monitor.packing import pack, unpack
from intensive_callbacks.monitor.window import Counts, Quality, Window
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    size = buffer.tell()
    buffer.seek(0)
    return torch.load(buffer, weights_only=True), size


def routing(num_layers, num_experts, seed):
    sums = RoutingSums.of({f"layers.{i}.mlp": RoutingStatistics(num_experts=num_experts) for i in range(num_layers)})
    loads = torch.randint(2000, (len(sums.packed()),), generator=torch.Generator().manual_seed(seed))
    return sums.with_packed(loads.double())


@pytest.fixture(scope="module")
def large():
    """150 windows of 61 layers of 256 experts, with 13 values of each layer."""
    history, heatmap = History(), Heatmap()
    for step in range(1, 151):
        values = {f"cost/{i}": float(torch.rand(())) for i in range(50)}
        values |= {f"routing_by_layer/{i}/layers.{j}.mlp": float(torch.rand(())) for i in range(13) for j in range(61)}
        history.append(50 * step, values, 50 * step - 1)
        heatmap.append(50 * step, 50 * step - 1, routing(61, 256, step))
    return history, heatmap, values


def test_the_checkpoint_of_a_large_model_is_small(large):
    history, heatmap, _ = large
    window = pack(torch.rand(61 * 800, dtype=torch.float64))
    _, size = saved({"history": history.state_dict(), "heatmap": heatmap.state_dict(), "window": window})
    assert size < 1e6


def test_what_a_checkpoint_has_comes_back_to_the_bit(large):
    history, heatmap, values = large
    state, _ = saved({"history": history.state_dict(), "heatmap": heatmap.state_dict()})
    again, maps = History(), Heatmap()
    again.load_state_dict(state["history"])
    maps.load_state_dict(state["heatmap"])
    for axis in ("step", "x"):
        assert again.rows(axis) == history.rows(axis)
        assert maps.rows(axis) == heatmap.rows(axis)
    assert again.newest() == history.newest() == values
    assert (
        maps.rows()[-1]["loads"]["layers.60.mlp"] == routing(61, 256, 150).by_layer()["layers.60.mlp"]["load"].tolist()
    )


def test_rows_have_all_scalars_and_some_the_layers(large):
    rows = large[0].rows()
    assert [row["step"] for row in rows] == [50 * step for step in range(1, 151)]
    with_layers = [row for row in rows if len(row) == 1 + 50 + 13 * 61]
    assert 8 <= len(with_layers) <= 32
    assert rows[-1] in with_layers
    assert len(large[1].rows()) >= 4


def test_rows_of_an_earlier_version_are_read():
    row = {"step": 5, "x": 4, "intensive/p3_score": 0.5}
    history, heatmap = History(), Heatmap()
    history.load_state_dict({"series": [{"rows": [row], "newest": row, "stride": 1, "num_appended": 1}]})
    assert history.rows() == [{"step": 5, "intensive/p3_score": 0.5}]
    loads = {"step": 5, "x": 4, "loads": {"mlp": [1.0, 2.0]}}
    heatmap.load_state_dict({"rows": [loads], "newest": loads, "stride": 1, "num_appended": 1})
    assert heatmap.rows() == [{"step": 5, "loads": {"mlp": [1.0, 2.0]}}]


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 3)])
def test_packed_numbers_are_the_same_to_the_bit(shape):
    numbers = torch.randn(shape, dtype=torch.float64)
    numbers.flatten()[:1] = torch.nan
    assert torch.equal(unpack(pack(numbers), shape).view(torch.int64), numbers.view(torch.int64))
    with pytest.raises(ValueError, match="must have"):
        unpack(pack(numbers), (*shape, 2) if numbers.numel() else (1,))


def test_a_long_learning_curve_is_bounded_and_right():
    facts = ModelFacts()
    for step in range(1, 5001):
        accuracy = 1 - (10 * step) ** -0.3
        window = Window(quality=Quality(accuracy, 1.0), counts=Counts(examples=10), is_due=False)
        facts = facts.after(window, step, data_is_new=True)
    assert len(facts.curve) <= 2048
    assert facts.curve[-1] == (50_000, 1 - 50_000**-0.3)
    sizes, accuracies = torch.tensor(facts.curve, dtype=torch.float64).unbind(-1)
    true = 100 * (25_000**-0.3 - 50_000**-0.3) / 25_000
    assert float(generalization_efficiency(sizes, accuracies)) == pytest.approx(true, rel=1e-3)
