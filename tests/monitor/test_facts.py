"""What is known of a model after each window, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from intensive_callbacks.monitor.facts import ModelFacts
from intensive_callbacks.monitor.window import Counts, Quality, Window
from intensive_callbacks.routing.discovery import discover
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums


def after(facts, step, *, due=True, quality=None, data_is_new=False, **counts):
    window = Window(is_due=due, quality=quality or Quality(), counts=Counts(**counts))
    return facts.after(window, step, data_is_new=data_is_new)


def test_speed_and_energy_of_two_processes():
    facts = ModelFacts().restarted(100)
    # Two processes of 5 s each: together 12,000 tokens in 5 s, for 600 J; each rewrites 32e9 bits a step.
    bits = 2 * 32e9
    shared = {"processes": 2, "bits": bits, "has_tokens": 2}
    facts = after(facts, 101, due=False, tokens=1_000, seconds=4, joules=100, **shared)  # at the first step
    facts = after(facts, 120, due=False, tokens=6_000, has_tokens=2)  # after a validation
    assert facts.speed == {}
    facts = after(facts, 150, tokens=5_000, seconds=6, joules=500, **shared)
    assert facts.speed == {"cost/tokens_per_second": 2_400, "cost/joules_per_token": 0.05}
    assert facts.num_joules == 0.05
    assert facts.energy == {"joules": 600, "bits_erased": 50 * 64e9}


def test_without_a_meter_there_is_no_energy():
    facts = after(ModelFacts(), 10, examples=640, processes=1, seconds=2, joules=math.nan, bits=320)
    assert facts.speed == {"cost/examples_per_second": 320}
    assert (facts.num_joules, facts.energy) == (None, None)


def test_flops_are_those_of_the_positions_that_were_counted():
    facts = after(ModelFacts(), 1, flops=600, positions=12)
    assert facts.num_flops == 50
    assert after(facts, 2).num_flops == 50  # a window in which nothing was counted


def test_an_unusable_accuracy_makes_the_newest_one_nan():
    facts = after(ModelFacts(), 1, quality=Quality.of(0.8, 50))
    assert (facts.accuracy, facts.num_examples) == (0.8, 50)
    assert after(facts, 2).accuracy == 0.8
    assert math.isnan(after(facts, 2, quality=Quality(unusable=1)).accuracy)


def test_the_learning_curve_ends_with_the_first_repeated_example():
    facts = after(ModelFacts(), 1, examples=100, quality=Quality.of(0.5), data_is_new=True)
    facts = after(facts, 2, examples=100, quality=Quality.of(0.75), data_is_new=True)
    facts = after(facts, 3, examples=100, quality=Quality.of(0.9), data_is_new=False)
    assert facts.curve == ((100, 0.5), (200, 0.75))


@pytest.mark.parametrize(
    ("accuracy", "says"),
    [
        (85.0, "divide percent by 100"),
        (-0.1, "got -0.1"),
        (math.nan, "got nan"),
        (math.inf, "got inf"),
        ("85 %", "must be a number"),
        ([0.5], "must be a number"),
        (torch.tensor([0.5, 0.6]), "must be a number"),
        (101.0, "got 101"),
    ],
)
def test_an_accuracy_that_is_no_fraction_is_refused(accuracy, says):
    with pytest.raises(ValueError, match=says):
        Quality.of(accuracy)


def test_accuracies_are_weighted_by_their_examples():
    first, second = Quality.of(1.0, 30), Quality.of(torch.tensor(0.5), 10)
    total = Quality(first.correct + second.correct, first.weight + second.weight)
    assert (total.accuracy, total.num_examples) == (0.875, 40)
    assert Quality.of(0.5).num_examples is None
    assert not Quality.of(0.5, 0).is_fresh


def test_a_model_that_grew_is_counted_again():
    model = nn.Sequential(nn.Linear(4, 2))
    facts = ModelFacts().counted(model, ())
    assert (facts.total_params, facts.by_argument["num_params"]) == (10, 10)
    model.append(nn.Linear(2, 2))
    assert facts.counted(model, ()).total_params == 16
    assert "num_params" not in facts.uncounted().by_argument


class Mixture(nn.Module):
    """Experts of 8, 16, 24 and 32 parameters; without ``top_k`` the model does not say how many a token uses."""

    def __init__(self, top_k=None):
        super().__init__()
        self.gate = nn.Linear(4, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 2 * size, bias=False) for size in (1, 2, 3, 4))
        if top_k:
            self.top_k = top_k


def routed(model, layers, **loads):
    """The active parameters after a window with these selections of 20 tokens in some of the layers."""
    statistics = {name: RoutingStatistics(num_experts=4) for name in loads}
    for name, load in loads.items():
        ids = torch.cat([torch.full((number,), e) for e, number in enumerate(load)])
        statistics[name].count(torch.cat([ids, torch.full((40 - len(ids),), -1)]).view(20, 2), mask=None)
    facts = ModelFacts().counted(model, layers)
    window = Window(is_due=True, quality=Quality(), counts=Counts(), training=RoutingSums.of(statistics))
    return facts.after(window, 1, data_is_new=False)


def test_unequal_experts_are_active_by_their_size_and_load():
    model = nn.ModuleDict({"a": Mixture(top_k=2), "b": Mixture(top_k=2)})
    layers = discover(model)
    facts = routed(model, layers, a=(10, 0, 20, 10))
    # Layer b was not observed: two of its experts, of 20 parameters in the mean.
    assert facts.active_params == 2 * 20 + (10 * 8 + 20 * 24 + 10 * 32) / 20 + 2 * 20
    assert facts.by_argument["num_params"] == facts.baseline()["baseline/active_params"] == facts.active_params


def test_a_layer_that_selected_nothing_is_dense():
    model = nn.ModuleDict({"a": Mixture(), "b": Mixture(top_k=1)})
    facts = routed(model, discover(model), a=(0, 0, 0, 0), b=(20, 0, 0, 0))
    assert facts.active_params == 2 * 20 + 80 + 8
    half = routed(model, discover(model), a=(10, 10, 10, 10), b=(20, 0, 0, 0))
    assert half.active_params == 2 * 20 + 80 / 2 + 8


def test_layers_that_the_model_has_lost_change_nothing():
    model = nn.ModuleDict({"a": Mixture(top_k=2)})
    layers = discover(model)
    model["a"] = Mixture(top_k=2)
    assert routed(model, layers, a=(10, 10, 10, 10)).active_params == 20 + 40


def test_a_state_of_another_version_is_read_leniently():
    facts = after(ModelFacts(random_baseline=0.25), 5, examples=64, quality=Quality.of(0.5, 8), data_is_new=True)
    state = facts.state_dict()
    assert ModelFacts().restored(state).curve == ((64, 0.5),)
    assert ModelFacts().restored(state).random_baseline == 0.25
    for name in state:
        partial = ModelFacts(random_baseline=0.1).restored({key: value for key, value in state.items() if key != name})
        assert partial.seen_examples == (0 if name == "seen_examples" else 64)
    assert ModelFacts().restored({"of the future": 1}) == ModelFacts()
