"""The fused reduction beside torchmetrics' own synchronization: the same states, in turn, on two processes.

Then the fused one alone on 2, 4 and 8 processes, for what 61 layers of 256 experts have to add up (0.4 MB), and for one
number, which is the latency of its two collectives.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from intensive_callbacks import ConfigurationEntropyScore, PerformancePerParameter
from intensive_callbacks.distributed import Processes, reduce_states

ROUNDS = 40


def metrics() -> list:
    """Twenty layers' entropy and five functions of the accuracy."""
    routing = [ConfigurationEntropyScore(num_experts=64) for _ in range(20)]
    efficiency = [PerformancePerParameter(num_params=1e9 * (index + 1)) for index in range(5)]
    for metric in routing:
        metric.update(torch.randint(64, (512, 8)))
    for metric in efficiency:
        metric.update(0.5, num_examples=100)
    return routing + efficiency


def own(each: list) -> list[float]:
    return [float(metric.compute()) for metric in each]


def fused(each: list) -> list[float]:
    states = [metric.metric_state for metric in each]
    sums = {f"{index}/{name}": state for index, own in enumerate(states) for name, state in own.items()}
    reduced, _, _ = reduce_states(sums, {}, {})
    values = []
    for index, (metric, mine) in enumerate(zip(each, states, strict=True)):
        for name in mine:
            setattr(metric, name, reduced[f"{index}/{name}"])
        metric._to_sync = False
        values.append(float(metric.compute()))
        for name, state in mine.items():  # as torchmetrics does after its own
            setattr(metric, name, state)
        metric._to_sync = True
    return values


def work(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(rank)
    each = metrics()
    seconds: dict[str, list[float]] = {"own": [], "fused": []}
    for _ in range(ROUNDS):
        values = []
        for name, compute in (("own", own), ("fused", fused)):
            dist.barrier()
            begin = time.perf_counter()
            values.append(compute(each))
            seconds[name].append(time.perf_counter() - begin)
        torch.testing.assert_close(*map(torch.tensor, values))
    if rank == 0:
        medians = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
        ratios = [a / b for a, b in zip(seconds["own"], seconds["fused"], strict=True)]
        sys.stdout.write(
            f"25 metrics on 2 processes (gloo), equal values: torchmetrics' own {medians['own']:.1f} ms, "
            f"fused {medians['fused']:.1f} ms; ratio {statistics.median(ratios):.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f})\n"
        )
    dist.destroy_process_group()


def scale(rank: int, store: str, world_size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    processes, said = Processes(), []
    for what, size in (("0.4 MB", 61 * 800), ("one number", 1)):
        sums, seconds = {"training/routing": torch.zeros(size, dtype=torch.float64)}, []
        for _ in range(ROUNDS + 1):
            dist.barrier()
            begin = time.perf_counter()
            processes.reduce(sums, {})
            seconds.append(1e3 * (time.perf_counter() - begin))
        said.append(f"{what} {statistics.median(seconds[1:]):.2f} ms (fastest {min(seconds[1:]):.2f})")
    if rank == 0:
        sys.stdout.write(f"{world_size} processes: {', '.join(said)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, args=(f"{folder}/store",), nprocs=2)
        for world_size in (2, 4, 8):
            mp.spawn(scale, args=(f"{folder}/store{world_size}", world_size), nprocs=world_size)
