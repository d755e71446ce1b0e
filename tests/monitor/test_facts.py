"""What is known of a model after each window, worked out by hand."""

import math

import pytest
import torch
from torch import nn

from intensive_callbacks.monitor.facts import ModelFacts
from intensive_callbacks.monitor.window import Counts, Quality, Window


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


def test_a_state_of_another_version_is_read_leniently():
    facts = after(ModelFacts(random_baseline=0.25), 5, examples=64, quality=Quality.of(0.5, 8), data_is_new=True)
    state = facts.state_dict()
    assert ModelFacts().restored(state).curve == ((64, 0.5),)
    assert ModelFacts().restored(state).random_baseline == 0.25
    for name in state:
        partial = ModelFacts(random_baseline=0.1).restored({key: value for key, value in state.items() if key != name})
        assert partial.seen_examples == (0 if name == "seen_examples" else 64)
    assert ModelFacts().restored({"of the future": 1}) == ModelFacts()
