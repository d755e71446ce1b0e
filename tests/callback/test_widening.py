"""Cards say how a value moves when a model is widened: measured on models that differ in width alone."""

import itertools
import math

import pytest
import torch
from torch import nn

from intensive_callbacks import Monitor, Tap, cards
from intensive_callbacks.footprint import speed
from intensive_callbacks.functional import size_exponent

WIDTHS = (1, 2, 4)
DIM, HIDDEN, NUM_EXPERTS, TOP_K = 16, 256, 8, 2


class Experts(nn.Module):
    """A mixture of experts of some hidden width, each token sent to ``top_k``."""

    def __init__(self, hidden, num_experts=NUM_EXPERTS, top_k=TOP_K):
        super().__init__()
        self.gate, self.top_k = nn.Linear(DIM, num_experts, bias=False), top_k
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(DIM, hidden), nn.Tanh(), nn.Linear(hidden, DIM)) for _ in range(num_experts)
        )

    def forward(self, x):
        tokens = x.reshape(-1, DIM)
        weights, ids = self.gate(tokens).softmax(-1).topk(self.top_k)
        weights, output = weights / weights.sum(-1, keepdim=True), torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, slot = torch.where(ids == number)
            output = output.index_add(0, token, weights[token, slot, None] * expert(tokens[token]))
        return output.reshape(x.shape)


def copied_units(factor):
    """The mixture with each hidden unit ``factor`` times, its outgoing weights shared: it computes the same."""
    torch.manual_seed(0)
    base, wide = Experts(HIDDEN), Experts(factor * HIDDEN)
    with torch.no_grad():
        wide.gate.weight.copy_(4 * base.gate.weight)
        for one, other in zip(base.experts, wide.experts, strict=True):
            other[0].weight.copy_(one[0].weight.repeat(factor, 1))
            other[0].bias.copy_(one[0].bias.repeat(factor))
            other[2].weight.copy_(one[2].weight.repeat(1, factor) / factor)
            other[2].bias.copy_(one[2].bias)
    return wide


def copied_experts(factor):
    """The mixture with each expert ``factor`` times, all copies chosen together: it computes the same."""
    torch.manual_seed(0)
    base, wide = Experts(HIDDEN), Experts(HIDDEN, factor * NUM_EXPERTS, factor * TOP_K)
    with torch.no_grad():
        wide.gate.weight.copy_(4 * base.gate.weight.repeat_interleave(factor, 0))
        for number, expert in enumerate(wide.experts):
            expert.load_state_dict(base.experts[number // factor].state_dict())
    return wide


class Meter:
    """Energy in proportion to the parameters."""

    def __init__(self, model):
        self.missing = ""
        self.joules = float(sum(parameter.numel() for parameter in model.parameters()))

    def start(self):
        """A reading."""

    stop = start


def logged(model, factor, monkeypatch, has_tokens):
    """The values of a run whose training changes nothing, on a machine that needs time in proportion to the width."""
    clock = itertools.count(step=factor)
    monkeypatch.setattr(speed.Pace.__init__, "__defaults__", (lambda: next(clock), None))
    monkeypatch.setattr(speed, "_meter_of", Meter)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    taps = [
        Tap("", lambda inputs, output: (inputs[0].square().sum(-1), output.square().sum(-1)), "QC3"),
        Tap("", lambda inputs, output: (None, output.reshape(-1, DIM)), "ECR"),
    ]
    number = {"num_tokens": lambda batch: batch.shape[0] * batch.shape[1]} if has_tokens else {}
    values, draw = {}, torch.Generator().manual_seed(1)
    with Monitor(model, every_n_steps=2, random_baseline=0.1, benchmark=None, taps=taps, **number) as monitor:
        for step in range(1, 5):
            batch = torch.randn(4, 32, DIM, generator=draw)
            monitor.observe(batch)
            model(batch).square().mean().backward()
            optimizer.step()
            values |= monitor.log(step, accuracy=0.6, num_examples=100)
    return values


def label(exponent):
    return "ratio" if exponent < -0.5 else "extensive" if exponent > 0.5 else "intensive"


def exponents(widened, monkeypatch, has_tokens):
    models = [widened(factor) for factor in WIDTHS]
    inputs = torch.randn(3, 5, DIM)
    for model in models:
        torch.testing.assert_close(model(inputs), models[0](inputs), atol=1e-5, rtol=1e-4)
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    runs = [logged(model, factor, monkeypatch, has_tokens) for model, factor in zip(models, WIDTHS, strict=True)]
    found = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        # What is 0, or negative, has no exponent: it stays.
        if len({round(value, 5) for value in values}) == 1:
            found[key] = 0.0
        elif not all(map(math.isnan, values)):
            found[key] = size_exponent(lambda value: value, zip(sizes, values, strict=True)).exponent
    return found


# What exists once for each kind of data, or counts experts, which this widening leaves as they are.
OF_TOKENS = {"baseline/flops_per_token", "cost/tokens_per_second", "cost/joules_per_token"}
OF_EXAMPLES = {"baseline/flops_per_example", "cost/examples_per_second", "cost/joules_per_example"}
EXPERTS = "routing/effective_experts"


@pytest.mark.parametrize("has_tokens", [True, False])
def test_every_default_card_says_what_widening_does(has_tokens, monkeypatch):
    found = exponents(copied_units, monkeypatch, has_tokens)
    default = {card.key: card for card in cards.CARDS if card.default}
    without_tokens = {*OF_TOKENS, "intensive/chinchilla_optimality"}
    assert default.keys() - found.keys() == (OF_EXAMPLES if has_tokens else without_tokens)
    for key in default.keys() & found.keys() - {EXPERTS}:
        assert found[key] == pytest.approx(round(found[key]), abs=0.1), key
        assert label(found[key]) == default[key].size, key


def test_a_count_of_experts_grows_with_copied_experts(monkeypatch):
    found = exponents(copied_experts, monkeypatch, has_tokens=True)
    assert found[EXPERTS] == pytest.approx(1, abs=0.05)
    assert cards.card(EXPERTS).size == "extensive"
    for key in ("intensive/p3_score", "intensive/memory_efficiency", "intensive/relevance_rate"):
        assert label(found[key]) == cards.card(key).size, key
