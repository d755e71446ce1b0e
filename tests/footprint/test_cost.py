"""The cost of a training: each shape of batch counted once, and the mean over all batches."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from intensive_callbacks.footprint.cost import MAX_SHAPES, TrainingCost

WIDTH = 4


class Quadratic(nn.Module):
    """A projection of each position, and a score for each pair of positions: the cost of a position grows with length.

    Counts how often it runs under a counter.
    """

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(WIDTH, WIDTH)
        self.num_counted = 0
        self.fails = False

    def forward(self, x):
        self.num_counted += _len_torch_dispatch_stack()
        x = self.project(x)
        if self.fails:
            raise ValueError("on purpose")
        return x @ x.mT


def flops(batch, length):
    return 2 * batch * length * WIDTH * WIDTH + 2 * batch * length * length * WIDTH


class Training:
    """A loop over batches of these shapes."""

    def __init__(self, model=None):
        self.model = model or Quadratic()
        self.cost = TrainingCost(self.model, nullcontext, lambda *_: None)

    def step(self, batch, length):
        x = torch.randn(batch, length, WIDTH)
        self.cost.begin(x.shape, batch * length)
        try:
            self.model(x)
        except ValueError:
            return
        self.cost.end()

    def over(self, *shapes):
        for shape in shapes:
            self.step(*shape)
        return self.cost.sums


def test_each_shape_is_counted_once_and_every_batch_summed():
    training = Training()
    shapes = [(3, 5), (3, 9), (3, 5), (2, 9), (3, 9), (3, 5)]  # the fourth is a batch that ran short
    sums = training.over(*shapes)
    assert sums["flops"] == sum(flops(*shape) for shape in shapes)
    assert sums["positions"] == 3 * 15 + 2 * 27 + 18
    assert training.model.num_counted == 3


def test_the_mean_weighs_positions():
    """Two lengths by hand: 2·16 for the projection of a position, 8·length for its scores."""
    sums = Training().over((1, 10), (1, 30))
    assert sums["flops"] / sums["positions"] == (10 * (32 + 80) + 30 * (32 + 240)) / 40


def test_shapes_beyond_the_limit_are_in_neither_sum():
    training = Training()
    shapes = [(1, length) for length in range(1, MAX_SHAPES + 6)]
    sums = training.over(*shapes, *shapes)
    assert training.model.num_counted == MAX_SHAPES
    assert sums["flops"] == 2 * sum(flops(*shape) for shape in shapes[:MAX_SHAPES])
    assert sums["positions"] == 2 * sum(length for _, length in shapes[:MAX_SHAPES])


def test_an_interrupted_forward_is_tried_once_more():
    training = Training()
    training.model.fails = True
    assert training.over((2, 3)) == {"flops": 0, "positions": 0}
    training.model.fails = False
    assert training.over((2, 3)) == {"flops": flops(2, 3), "positions": 6}
    training.model.fails = True
    training.over((2, 4), (2, 4), (2, 4))
    training.cost.cancel()
    training.model.fails = False
    assert training.over((2, 4)) == {"flops": flops(2, 3), "positions": 6}
    assert training.model.num_counted == 2 + 2
    assert _len_torch_dispatch_stack() == 0


def test_after_a_restart_the_cost_of_a_shape_is_known():
    training = Training()
    training.over((2, 3), (2, 3))
    training.cost.restart()
    assert training.cost.sums == {"flops": 0, "positions": 0}
    assert training.over((2, 3)) == {"flops": flops(2, 3), "positions": 6}
    assert training.model.num_counted == 1


def test_nothing_counted_is_one_warning_and_in_neither_sum():
    training = Training(nn.ReLU())
    with pytest.warns(
        RuntimeWarning, match="counting the FLOPs of a batch failed: ValueError: no FLOPs were"
    ) as caught:
        assert training.over((2, 3), (2, 3), (2, 3)) == {"flops": 0, "positions": 0}
    assert len(caught) == 1


def test_an_operator_without_a_formula_is_named_once():
    class Distances(nn.Linear):
        def forward(self, x):
            return torch.cdist(super().forward(x), x, compute_mode="donot_use_mm_for_euclid_dist")

    training = Training(Distances(WIDTH, WIDTH))
    with pytest.warns(RuntimeWarning, match="counting the FLOPs of aten::_cdist_forward failed.*no formula") as caught:
        sums = training.over((2, 3), (2, 5), (2, 3))
    assert sums == {"flops": 2 * 22 * WIDTH * WIDTH, "positions": 22}
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_model_that_cannot_be_counted_is_one_warning():
    training = Training(torch.jit.script(nn.Linear(WIDTH, WIDTH)))
    with pytest.warns(RuntimeWarning, match="counting the FLOPs failed and is switched off.*ScriptModule") as caught:
        assert training.over((2, 3), (2, 5)) == {"flops": 0, "positions": 0}
    assert sum("ScriptModule" in str(each.message) for each in caught) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_several_processes_rerun_only_the_first_batch(monkeypatch):
    """The extra run may communicate, and processes do not see a new shape at the same step."""
    compiled = Quadratic()
    compiled.compile(backend="eager")
    monkeypatch.setattr("intensive_callbacks.footprint.cost._num_processes", lambda: 2)
    assert Training(compiled).over((2, 3), (2, 4), (2, 3)) == {"flops": 2 * flops(2, 3), "positions": 12}
    assert Training().over((2, 3), (2, 4)) == {"flops": flops(2, 3) + flops(2, 4), "positions": 14}


def test_a_lazy_model_is_counted_in_its_first_forward():
    training = Training(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)))
    assert training.over((2, 5), (2, 5)) == {"flops": 2 * 2 * 10 * (WIDTH * 3 + 3 * 2), "positions": 20}
    assert training.model[0].in_features == WIDTH


def test_a_lazy_compiled_part_is_counted_once_it_exists():
    """Running it once more, before it exists, would spoil it."""
    model = nn.Sequential(nn.LazyLinear(3))
    forward = partial(type(model).forward, model)
    forward._torchdynamo_orig_callable = type(model).forward
    model.forward = forward
    training = Training(model)
    assert training.over((2, 5)) == {"flops": 0, "positions": 0}
    assert training.over((2, 5)) == {"flops": 2 * 10 * WIDTH * 3, "positions": 10}
    assert model[0].in_features == WIDTH


def test_a_nested_batch_of_jagged_sequences_is_counted():
    class Jagged(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(WIDTH, 3, bias=False)

        def forward(self, x):
            return self.project(torch.nested.nested_tensor([x[0, :1], x[0]], layout=torch.jagged)).values()

    assert Training(Jagged()).over((1, 5)) == {"flops": 2 * (1 + 5) * WIDTH * 3, "positions": 5}


def test_a_formula_that_fails_leaves_no_cost(monkeypatch):
    from intensive_callbacks.footprint.flop_formulas import FORMULAS

    def breaks(*_):
        raise LookupError("on purpose")

    class TwoProducts(nn.Linear):
        def forward(self, x):
            return torch.bmm(super().forward(x), x.transpose(1, 2))

    monkeypatch.setitem(FORMULAS, "aten::bmm", breaks)
    training = Training(TwoProducts(WIDTH, WIDTH))
    with pytest.warns(RuntimeWarning, match="counting the FLOPs of aten::bmm failed: LookupError") as caught:
        assert training.over((2, 3), (2, 5), (2, 3)) == {"flops": 0, "positions": 0}
    assert len(caught) == 1
