"""What runs in the processes of the table of faults: a short training, with one thing wrong on the last process."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, nullcontext
from unittest import mock

import torch
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import Metric

from intensive_callbacks import Monitor, Tap
from intensive_callbacks.footprint.speed import Pace
from intensive_callbacks.monitor.collector import Collector, _OpenCounts
from intensive_callbacks.monitor.facts import ModelFacts

STEPS, EVERY = 6, 2


class Kept(Metric):
    """Keeps what it is given, as samples and as a sum of its size."""

    def __init__(self, size=1):
        super().__init__()
        self.add_state("values", [], dist_reduce_fx="cat")
        self.add_state("total", torch.zeros(size), dist_reduce_fx="sum")

    def update(self, values):
        self.values.append(values.detach())

    def compute(self):
        return torch.cat(self.values).mean()


RAISES = {
    "energy cannot be read": (Pace, "read"),
    "closing the window": (Collector, "close"),
    "counting the batches": (_OpenCounts, "take"),
    "what follows the reduction": (ModelFacts, "after"),
}
FAULTS = (
    "none",
    *RAISES,
    "ragged samples",
    "a state of another shape",
    "no accuracy",
    "a refused accuracy",
    "no validation",
    "another step",
    "fewer batches",
    "no log",
)


def table(rank, world_size, faults):
    """For each fault: whether the weights are those without a Monitor, the last step's accuracy, and the warnings."""
    return {fault: _with_and_without(fault, rank, world_size) for fault in faults}


def _with_and_without(fault, rank, world_size):
    plain, *_ = _train(fault, rank, world_size, monitored=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights, values, hooks = _train(fault, rank, world_size, monitored=True)
    said = [str(each.message) for each in caught if "intensive_callbacks" in str(each.message)]
    same = all(map(torch.equal, plain, weights))
    return same, values.get("intensive/p3_score", 0.0) * 27e-11, said, hooks


def _train(fault, rank, world_size, *, monitored):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 3))
    model = DistributedDataParallel(net) if world_size > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    is_here = rank == world_size - 1
    tap = Tap("0", lambda inputs, output: output, Kept(2 if is_here and fault == "a state of another shape" else 1))
    monitor = Monitor(net, every_n_steps=EVERY, metrics=["P3"], observe="every_step", taps=[tap], benchmark=None)
    num_steps = STEPS - 3 if is_here and fault == "fewer batches" else STEPS
    values = {}
    with ExitStack() as stack:
        if is_here and fault in RAISES and monitored:
            stack.enter_context(mock.patch.object(*RAISES[fault], side_effect=RuntimeError("only here")))
        if monitored:
            stack.enter_context(monitor)
        if fault == "fewer batches" and world_size > 1:
            stack.enter_context(Join([model]))
        for step in range(1, num_steps + 1):
            ragged = is_here and fault == "ragged samples" and step % 2 == 0
            x = torch.randn(2, 5 if ragged else 4, 8, generator=torch.Generator().manual_seed(10 * step + rank))
            if monitored:
                monitor.observe(x)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            if monitored and not (is_here and fault == "no log"):
                values = _log(monitor, net, fault, step, is_here=is_here)
    hooks = sum(len(module._forward_hooks) for module in net.modules())
    return [*net.parameters()], values, hooks


def _log(monitor, net, fault, step, *, is_here):
    if fault == "no validation":
        with nullcontext() if is_here else monitor.validation(), torch.no_grad():
            net(torch.ones(2, 4, 8))
    accuracy = {"no accuracy": None, "no validation": None, "a refused accuracy": 80.0} if is_here else {}
    step = step + 1 if is_here and fault == "another step" else step
    return monitor.log(step, accuracy.get(fault, 0.5), num_examples=8 if accuracy.get(fault, 0.5) else None)
