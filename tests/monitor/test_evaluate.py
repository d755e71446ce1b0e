"""One logging step's values from windows made by hand: no model runs here."""

import math
import warnings

import pytest
import torch
from torchmetrics import Metric

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.monitor.evaluate import evaluate, named_values
from intensive_callbacks.monitor.facts import ModelFacts
from intensive_callbacks.monitor.feeds import Feeds
from intensive_callbacks.monitor.selection import select
from intensive_callbacks.monitor.window import Quality, Window
from intensive_callbacks.routing.statistics import RoutingStatistics
from intensive_callbacks.routing.sums import RoutingSums

FACTS = ModelFacts(total_params=1_000, active_params=500, num_bytes=4_000, random_baseline=0.25)


def routing(*loads):
    """The sums of layers with these loads, two experts a token."""
    layers = {}
    for number, load in enumerate(loads):
        statistics = RoutingStatistics(len(load))
        ids = torch.repeat_interleave(torch.arange(len(load)), torch.tensor(load)).reshape(-1, 2)
        statistics.count(ids, mask=None)
        layers[f"layers.{number}"] = statistics
    return RoutingSums.of(layers)


def values(window, metrics, facts=FACTS, *, per_layer=False, boundary=None):
    boundary = boundary or Boundary(strict=True)
    selected = select(metrics)
    feeds = Feeds(
        torch.nn.Linear(1, 1), taps=(), selected=selected, layers={}, facts=lambda: facts.by_argument, boundary=boundary
    )
    return evaluate(window, facts, selected, feeds, boundary, per_layer=per_layer)


def with_accuracy(accuracy, num_examples, **window):
    window = Window(quality=Quality.of(accuracy, num_examples), **window)
    return window, FACTS.after(window, 10, data_is_new=False)


def test_an_accuracy_and_its_standard_errors():
    window, facts = with_accuracy(0.8, 100)
    results = values(window, ["P3", "R3"], facts)
    assert results.values == {
        "intensive/p3_score": pytest.approx(100 * 0.8 / 5e-7),
        "intensive/relevance_rate": pytest.approx(0.5 * 0.8 / 0.25),
    }
    error = math.sqrt(0.8 * 0.2 / 100)
    assert results.errors["intensive/p3_score"] == pytest.approx(100 * error / 5e-7)
    assert results.errors["intensive/relevance_rate"] == pytest.approx(0.5 * error / 0.25)


def test_without_news_there_are_no_values():
    assert values(Window(is_due=False), ["P3", "R3"]).values == {}


def test_an_unusable_accuracy_makes_every_score_nan():
    results = values(Window(quality=Quality(unusable=1)), ["P3", "R3"])
    assert all(math.isnan(value) for value in results.values.values())
    assert len(results.values) == 2
    assert results.undefined == {}  # why was said where it came


def test_a_missing_fact_is_a_reason_if_asked_for():
    window, facts = with_accuracy(0.5, 10)
    results = values(window, ["P2F"], facts)
    assert results.values == {}
    assert "no FLOPs of a forward pass were counted" in results.absent["P2F"]
    assert values(window, "default", facts).absent == {}


def test_layers_of_different_width_in_the_order_of_depth():
    # MaxVio: 6/4 - 1, 8/4 - 1, 2/2 - 1 by hand.
    window = Window(training=routing([6, 2, 4, 4], [8, 0], [2, 2]))
    results = values(window, ["routing/max_violation"], per_layer=True)
    assert results.values == {
        "routing/max_violation": pytest.approx((0.5 + 1.0 + 0.0) / 3),
        "routing/max_violation_worst": 1.0,
        "routing_by_layer/max_violation/layers.0": 0.5,
        "routing_by_layer/max_violation/layers.1": 1.0,
        "routing_by_layer/max_violation/layers.2": 0.0,
        "routing/max_violation_standard_error": pytest.approx(math.nan, nan_ok=True),  # of fewer than four layers
    }


def test_a_layer_that_was_not_routed_leaves_the_others():
    window = Window(training=routing([6, 2, 4, 4], [0, 0, 0, 0]))
    results = values(window, ["routing/max_violation"], per_layer=True)
    assert results.values["routing/max_violation"] == 0.5
    assert math.isnan(results.values["routing_by_layer/max_violation/layers.1"])


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"training": routing([4, 0])}, 0.0),
        ({"training": routing([4, 0]), "validates": True}, None),
        ({"training": routing([4, 0]), "validates": True, "validation": routing([2, 2])}, 1.0),
        ({"training": routing([4, 0]), "validates": True, "validation": routing([0, 0])}, 0.0),  # it ran elsewhere
    ],
)
def test_config_entropy_is_of_the_validation_where_there_is_one(window, expected):
    assert values(Window(**window), ["CES"]).values.get("intensive/config_entropy") == expected


class Vector(Metric):
    """A metric that computes what it is told to."""

    def __init__(self, value):
        super().__init__()
        self.value = value
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, accuracy):
        self.total += accuracy

    def compute(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (torch.tensor([1.0, 2.0]), {"intensive/vector_0": 1.0, "intensive/vector_1": 2.0}),
        (torch.tensor([[3.0]]), {"intensive/vector": 3.0}),
        (
            {"value": torch.tensor(1.0), "low": torch.tensor(0.5)},
            {"intensive/vector": 1.0, "intensive/vector_low": 0.5},
        ),
        (torch.zeros(3, 3), {}),
        (torch.zeros(1000), {}),
        (RuntimeError("broken"), {}),
    ],
    ids=str,
)
def test_one_value_never_takes_another_along(value, logged):
    window, facts = with_accuracy(0.5, 10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = values(window, ["P3", Vector(value), "R3"], facts, boundary=Boundary())
    assert {key: value for key, value in results.values.items() if "vector" in key} == logged
    assert {"intensive/p3_score", "intensive/relevance_rate"} <= results.values.keys()
    assert [("Vector" in str(warning.message)) for warning in caught] == ([] if logged else [True])


def test_the_shape_that_cannot_be_logged_is_named():
    with pytest.raises(ValueError, match=r"intensive/confusion has the shape \[3, 3\], which cannot be logged"):
        named_values("intensive/confusion", torch.zeros(3, 3))
