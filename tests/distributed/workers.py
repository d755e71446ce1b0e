"""What runs in the processes of the distributed tests."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import processes
from intensive_callbacks import ConfigurationEntropyScore, Monitor, Tap
from intensive_callbacks.distributed import ProcessesDisagree, reduce_states

COLLECTIVES = ("all_reduce", "all_gather", "all_gather_object", "broadcast", "barrier", "gather", "reduce")


def _enter(rank, world_size, store, work, arguments, results, seconds):  # noqa: PLR0917 - mp.spawn passes them by position
    torch.set_num_threads(1)
    limit = timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=limit)
    results[rank] = work(rank, world_size, *arguments)
    dist.destroy_process_group()


def spawn(world_size, tmp_path, work, *arguments, seconds=60):
    """What ``work(rank, world_size, *arguments)`` returns in each of so many processes, none of which waits longer."""
    store = tmp_path / f"store-{world_size}-{work.__name__}"
    with mp.Manager() as manager:
        results = manager.dict()
        processes.run(_enter, (world_size, store, work, arguments, results, seconds), world_size)
        return [results[rank] for rank in range(world_size)]


class Counting:
    """Counts the collectives that are called while it is on."""

    def __enter__(self):
        self.calls = Counter()
        self.real = {name: getattr(dist, name) for name in COLLECTIVES}
        for name, real in self.real.items():
            setattr(dist, name, self.count(name, real))
        return self.calls

    def count(self, name, real):
        def counted(*args, **kwargs):
            self.calls[name] += 1
            return real(*args, **kwargs)

        return counted

    def __exit__(self, *_):
        for name, real in self.real.items():
            setattr(dist, name, real)


def reduce_something(rank, world_size):
    sums = {"a/load": torch.tensor([rank + 1, 2**40]), "b/entropy": torch.tensor(0.1 * rank, dtype=torch.float64)}
    samples = {"c/rows": torch.arange(rank * 2.0).reshape(rank, 2)}
    sums, samples, failed = reduce_states(sums, samples, {"b"} if rank == 1 else ())
    return {name: value.tolist() for name, value in {**sums, **samples}.items()}, failed


def reduce_different_things(rank, world_size):
    """States of another shape, samples of another width, states on one process alone, and a failure without states."""
    sums = {"same/load": torch.tensor([rank + 1]), "shape/load": torch.zeros(3 + rank)}
    samples = {"same/rows": torch.full((1, 1), float(rank)), "width/rows": torch.zeros(2, 3 + rank)}
    if rank == 0:
        sums["absent/load"] = torch.zeros(2)
    sums, samples, failed = reduce_states(sums, samples, {"stateless"} if rank == 1 else ())
    return {name: value.tolist() for name, value in {**sums, **samples}.items()}, failed


def reduce_much(rank, world_size):
    """The states of 25 metrics over 60 layers of 64 experts, and a sample buffer."""
    sums = {f"{layer}/{metric}": torch.full((64,), rank) for layer in range(60) for metric in range(25)}
    with Counting() as calls:
        reduce_states(sums, {"tap/rows": torch.zeros(rank, 3)})
    return sum(calls.values())


class Router(nn.Module):
    """One mixture of experts and a head, in float64 so that the processes' batches may be cut in any way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(8, 4)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.head = nn.Linear(8, 3)
        self.double()

    def forward(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(2)
        mixed = sum((weights * (chosen == i)).sum(-1, keepdim=True) * e(x) for i, e in enumerate(self.experts))
        return self.head(mixed)


def watch(rank, world_size, without_data):
    """Values of two logging steps over the same 50 examples, however many processes there are."""
    data = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50) % 3
    active = world_size - (without_data and world_size > 1)
    mine = torch.arange(50)[rank::active] if rank < active else torch.arange(0)
    model = Router()
    tap = Tap("head", lambda inputs, output: output.argmax(-1), ConfigurationEntropyScore(num_experts=3))
    rows = []
    with Counting() as calls, Monitor(model, every_n_steps=1, random_baseline=1 / 3, taps=[tap]) as monitor:
        for step in (1, 2):
            for part in mine.split(7) if len(mine) else [mine]:  # the last batch is smaller
                monitor.observe(data[part])
                model(data[part])
            with monitor.validation(), torch.no_grad():
                accuracy = (model(data[mine]).argmax(-1) == labels[mine]).double().mean() if len(mine) else None
            values = monitor.log(step, accuracy, num_examples=len(mine))
            rows.append({key: value for key, value in values.items() if not key.startswith("cost/")})
    return rows, sum(calls.values())


def watch_with_a_fault(rank, world_size):
    """One process's metric fails; the others do not wait for it."""
    import warnings

    def read(inputs, output):
        if rank == 1:
            raise RuntimeError("only here")
        return output.argmax(-1)

    model = Router()
    tap = Tap("head", read, ConfigurationEntropyScore(num_experts=3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Monitor(model, every_n_steps=1, taps=[tap], metrics=["P3"]) as monitor:
            monitor.observe(torch.zeros(4, 8, dtype=torch.float64))
            model(torch.zeros(4, 8, dtype=torch.float64))
            values = monitor.log(1, 0.5)
    return values, [str(each.message) for each in caught if issubclass(each.category, RuntimeWarning)]


def watch_wrapped(rank, world_size, wrap, num_accumulated):
    """Routing values of a wrapped model over the same 48 examples, with backward passes in between."""
    data = torch.randn(48, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = Router()
    model.register_buffer("counter", torch.zeros(1))  # something for broadcast_buffers to broadcast
    if world_size > 1 and wrap == "fsdp2":
        forward = fully_shard(model, mesh=init_device_mesh("cpu", (world_size,)))
    else:
        forward = model if world_size == 1 else DistributedDataParallel(model, **wrap)
    with Monitor(model, every_n_steps=1, metrics=["CES", "routing/specialization", "routing/max_violation"]) as monitor:
        for part in data[rank::world_size].chunk(num_accumulated):
            monitor.observe(part)
            forward(part).sum().backward()
        return {key: value for key, value in monitor.log(1).items() if not key.startswith("cost/")}


def reduce_what_one_has(rank, world_size):
    """An optional part on the last process alone, and one beside it that all must have."""
    sums, samples = {"same/load": torch.ones(1)}, {}
    if rank == world_size - 1:
        sums |= {"maybe/load": torch.tensor([7.0, 0.0]), "certain/load": torch.ones(1)}
        samples["maybe/rows"] = torch.tensor([[2.0, 3.0]])
    sums, samples, failed = reduce_states(sums, samples, optional={"maybe"})
    return {name: value.tolist() for name, value in {**sums, **samples}.items()}, failed


def reduce_unequal_samples(rank, world_size):
    """One number here, and so much there that what is packed is padded by more than a zip file's search for its end."""
    rows = torch.zeros(200_000) if rank else torch.ones(1)
    _, samples, _ = reduce_states({}, {"tap/rows": rows})
    return len(samples["tap/rows"]), float(samples["tap/rows"].sum())


def reduce_at_different_steps(rank, world_size):
    try:
        reduce_states({"a/b": torch.ones(1)}, where={"step": 17 if rank == 1 else 10})
    except ProcessesDisagree as error:
        return str(error)
    return ""
