"""Metrics of a third party, of every kind of data: as an object, and by a card of their own."""

import dataclasses
import re

import pytest
import torch
from torch import nn
from torchmetrics import Metric

from intensive_callbacks import MaxViolation, Monitor, Tap, cards, register_card, register_signal
from intensive_callbacks.boundary import Refused
from intensive_callbacks.monitor.signals import SIGNALS


class Last(Metric):
    """Keeps the sum of one number; subclasses say of which argument."""

    higher_is_better = True

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def compute(self):
        return self.total


class Doubled(Last):
    def update(self, accuracy):
        self.total += 2 * accuracy


class Tokens(Last):
    def update(self, num_tokens):
        self.total += num_tokens


class FirstExpert(Last):
    """The selections of expert 0: states of its own, fed by every decision."""

    def update(self, expert_ids, mask=None):
        self.total += (expert_ids == 0).sum()


class Weights(Last):
    """The mean of the greatest weight needs a state that routers' sums do not have."""

    def update(self, probabilities):
        self.total += probabilities.amax(-1).sum()


class Gini(MaxViolation):
    """A subclass of ours, whose states are the routers' own sums."""

    def compute(self):
        return self.load.double().amin(-1)


class Noise(Last):
    def update(self, small_norm_squared, large_norm_squared):
        self.total += small_norm_squared / large_norm_squared


class FreeEnergy(Last):
    """Another quantity that happens to be called like one of the library's."""

    def update(self, accuracy):
        self.total += 1 - accuracy


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(2)
        return sum((weights * (ids == i)).sum(-1, keepdim=True) * each(x) for i, each in enumerate(self.experts))


@pytest.fixture
def batch():
    return torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def registered():
    """Cards and signals as they were, afterwards."""
    before, signals = cards.CARDS, dict(SIGNALS)
    yield
    cards.CARDS = before
    cards._REGISTERED.clear()
    SIGNALS.clear()
    SIGNALS.update(signals)


def log(batch, model=None, num_steps=2, **settings):
    """The values of the last of some steps, each with an accuracy and a pair of gradient norms."""
    model = Mixture() if model is None else model
    with Monitor(model, every_n_steps=1, strict=True, benchmark=None, **settings) as monitor:
        for step in range(1, num_steps + 1):
            monitor.observe(batch)
            model(batch)
            monitor.observe_gradients(torch.tensor(3.0), torch.tensor(2.0), 32, 64)
            values = monitor.log(step, accuracy=0.75, num_examples=64)
    return values


def selections(model, batch):
    return torch.bincount(model.gate(batch).topk(2).indices.flatten(), minlength=4)


@pytest.mark.parametrize(
    ("metric", "key", "expected"),
    [
        (Doubled(), "intensive/doubled", 1.5),
        (Noise(), "intensive/noise", 3.0),  # a mean over the whole training: two steps of 1.5
        (FreeEnergy(), "intensive/own_free_energy", 0.25),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_is_fed_by_what_its_update_takes(batch, metric, key, expected):
    assert log(batch, metrics=[metric])[key] == pytest.approx(expected)


def test_tokens_reach_an_object(batch):
    values = log(batch, metrics=[Tokens()], num_tokens=lambda batch: 5, num_steps=3)
    assert values["intensive/tokens"] == 15


def test_a_subclass_of_ours_is_fed_by_the_routers_sums(batch):
    torch.manual_seed(0)
    model = Mixture()
    assert log(batch, model, metrics=[Gini(num_experts=4)])["routing/gini"] == selections(model, batch).min()


def test_states_of_its_own_are_fed_by_every_decision(batch):
    torch.manual_seed(0)
    model = nn.Sequential(Mixture(), Mixture())
    values = log(batch, model, metrics=[FirstExpert(), Weights()], per_layer=True)
    first = selections(model[0], batch)[0]
    assert values["routing_by_layer/first_expert/0"] == first
    second = selections(model[1], model[0](batch))[0]
    assert values["routing/first_expert"] == pytest.approx((first + second) / 2)
    greatest = model[0].gate(batch).softmax(-1).amax(-1).double().sum().item()
    assert values["routing_by_layer/weights/0"] == pytest.approx(greatest, rel=1e-6)


def card(**changes):
    return dataclasses.replace(cards.card("P3"), **{"metric": None, "symbol": "TWICE", "key": "mine/twice", **changes})


@pytest.mark.usefixtures("registered")
def test_a_registered_card_is_asked_for_by_symbol_and_key(batch):
    register_card(card(), Doubled)
    assert log(batch, metrics=["TWICE"])["mine/twice"] == 1.5
    assert log(batch, metrics=["mine/twice"])["mine/twice"] == 1.5
    assert "mine/twice" in log(batch, metrics="default", random_baseline=0.1)
    register_card(card(default=False), Doubled)  # a notebook's cell, run twice
    assert "mine/twice" not in log(batch, metrics="default", random_baseline=0.1)


@pytest.mark.usefixtures("registered")
def test_a_registered_signal_feeds_a_metric(batch):
    class Scale(Last):
        def update(self, loss_scale):
            self.total += loss_scale

    register_signal("scale", ("loss_scale",), lambda window, facts: {"loss_scale": 8.0 if window.is_due else 0.0})
    register_card(card(fed_by="scale", symbol="LS", key="mine/loss_scale"), Scale)
    assert log(batch, metrics=["LS"])["mine/loss_scale"] == 8.0
    assert log(batch, metrics=[Scale()])["mine/loss_scale"] == 8.0  # the object has the class's card


@pytest.mark.usefixtures("registered")
def test_a_registered_card_can_be_tapped(batch):
    register_card(card(fed_by="tap", symbol="OUT", key="mine/out"), Doubled)
    model = nn.Linear(8, 1)
    values = log(batch, model, taps=[Tap("", lambda inputs, output: torch.tensor(1.0), "OUT")])
    assert values["mine/out"] > 0


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": "intensive/p3_score"}, "belongs to intensive/p3_score"),
        ({"symbol": "P3"}, "belongs to intensive/p3_score"),
        ({"key": "intensive/p3_score/mine"}, "no key may be another key plus '/...'"),
        ({"key": "intensive"}, "no key may be another key plus '/...'"),
    ],
)
def test_a_card_that_takes_a_name_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        register_card(card(**changes), Doubled)


def test_a_fact_that_no_run_knows_is_named(batch):
    says = "CouplingQuality requires num_x, num_y, .* CouplingQuality(num_x=..., num_y=...)"
    with pytest.raises(Refused, match=re.escape(says).replace(r"\.\*", ".*")):
        Monitor(nn.Linear(8, 8), taps=[Tap("", lambda inputs, output: output, "CQ")])
    with pytest.raises(Refused, match="needs the accuracy of chance; pass random_baseline="):
        Monitor(nn.Linear(8, 8), taps=[Tap("", lambda inputs, output: output, "R3")])


def test_a_metric_that_nothing_feeds_is_refused():
    class Unfed(Last):
        def update(self, preds, target):
            self.total += 1

    with pytest.raises(ValueError, match="Unfed needs a signal from inside the model: pass taps="):
        Monitor(nn.Linear(8, 8), metrics=[Unfed()])
