"""A mixture with expert parallelism over 2 processes, under DDP and under FSDP2, beside one process on the same data.

    torchrun --nproc-per-node 2 tests/benchmarks/processes.py                    # two GPUs, or else two CPU processes
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 tests/benchmarks/processes.py

On an even number of processes: NCCL where each has a GPU, otherwise Gloo. The first process prints one line of JSON per
way: whether the losses are those of a training without a Monitor to the bit (deterministic algorithms), the greatest
relative difference of a logged value from one process's, and milliseconds of a logging step and of its reduction. It
exits with 1 if losses differ or values are more than 1e-6 apart.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic algorithms, before CUDA starts

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from intensive_callbacks import Monitor
from intensive_callbacks.distributed import Processes

VOCABULARY, WIDTH, EXPERTS, TOP_K, LAYERS = 64, 64, 8, 2, 4
STEPS, EVERY, EXAMPLES, LENGTH = 12, 4, 64, 32  # examples: of one step, over all processes
METRICS = ["P3", "SAA", "MER", "CES", "COI", "routing/load_entropy", "routing/max_violation", "routing/specialization"]


class Mixture(nn.Module):
    """Top-2 of 8 experts, of which each process of ``group`` holds an equal share; tokens travel by all-to-all."""

    def __init__(self, group) -> None:
        super().__init__()
        self.group, self.top_k = group, TOP_K
        self.num_holders = group.size() if group else 1
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(EXPERTS // self.num_holders)
        )

    def forward(self, x):
        shape, x = x.shape, x.flatten(0, -2)
        weights, ids = self.gate(x).softmax(-1).topk(self.top_k)
        order = ids.flatten().argsort(stable=True)
        counts = (ids.flatten()[:, None] == torch.arange(EXPERTS, device=x.device)).sum(0)
        rows, received = self.exchange(x[order // self.top_k], counts)
        # By sender, then by expert: each expert takes its rows of every sender.
        pieces = rows.split(received.flatten().tolist())
        done = [None] * len(pieces)
        for number, expert in enumerate(self.experts):
            mine = list(range(number, len(pieces), len(self.experts)))
            out = expert(torch.cat([pieces[place] for place in mine]))
            for place, part in zip(mine, out.split([len(pieces[place]) for place in mine]), strict=True):
                done[place] = part
        back = self.give_back(torch.cat(done), counts, received)
        chosen = back[order.argsort()].view(*ids.shape, -1)
        return (weights[..., None] * chosen).sum(1).view(shape)

    def exchange(self, rows, counts):
        """The rows for the experts here, and how many came from each process for each of them."""
        if self.group is None:
            return rows, counts[None]
        received = torch.empty_like(counts)
        dist.all_to_all_single(received, counts, group=self.group)
        received = received.view(self.num_holders, -1)
        sent = counts.view(self.num_holders, -1).sum(1).tolist()
        arrived = received.sum(1).tolist()
        return collectives.all_to_all_single_autograd(rows, arrived, sent, self.group), received

    def give_back(self, rows, counts, received):
        if self.group is None:
            return rows
        sent = counts.view(self.num_holders, -1).sum(1).tolist()
        return collectives.all_to_all_single_autograd(rows, sent, received.sum(1).tolist(), self.group)


class Model(nn.Module):
    def __init__(self, group=None) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Mixture(group) for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = x + layer(nn.functional.rms_norm(x, (WIDTH,)))
        return self.head(x)


def build(device, group=None):
    """The same weights however the experts are spread."""
    torch.manual_seed(0)
    whole = Model().double().to(device)
    if group is None:
        return whole
    model, share = Model(group).double().to(device), EXPERTS // group.size()
    state = whole.state_dict()
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if "experts" in parts:
            place = parts.index("experts") + 1
            parts[place] = str(int(parts[place]) + share * group.rank())
        tensor.copy_(state[".".join(parts)])
    return model


def wrap(model, way, mesh):
    """What runs forward, and the parameters that it does not synchronize."""
    experts = {name: p for name, p in model.named_parameters() if ".experts." in name}
    if way == "ddp":
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(experts))
        return DistributedDataParallel(model), list(experts.values())
    if way == "fsdp2":
        everyone = init_device_mesh(mesh.device_type, (dist.get_world_size(),), mesh_dim_names=("dp",))
        return fully_shard(model, mesh=everyone, ignored_params=set(experts.values())), list(experts.values())
    return model, []


def batch(step, device):
    generator = torch.Generator().manual_seed(step)
    return torch.randint(VOCABULARY, (EXAMPLES, LENGTH + 1), generator=generator).to(device)


def train(way, device, mesh, *, monitored):
    """Losses, logged values, and milliseconds of each logging step."""
    alone = way == "one process"
    model = build(device, None if alone else mesh["ep"].get_group())
    forward, unsynchronized = wrap(model, way, mesh)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, foreach=False
    )  # torch 2.11 mixes no DTensors with tensors there
    losses, rows, times = [], [], []
    group = ALONE if alone else None
    monitor = Monitor(model, every_n_steps=EVERY, metrics=METRICS, benchmark=None, process_group=group)
    if monitored:
        monitor.attach()
    for step in range(1, STEPS + 1):
        data = batch(step, device)
        # An explicit share: with the same number on each process the mean of the means is the mean.
        data = data if alone else data[dist.get_rank() :: dist.get_world_size()]
        inputs, labels = {"input_ids": data[:, :-1]}, data[:, 1:]
        if monitored:
            monitor.observe(inputs)
        optimizer.zero_grad()
        logits = forward(inputs["input_ids"])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        for parameter in unsynchronized:  # each has the sum over the tokens of its 2 processes already
            dist.all_reduce(parameter.grad, group=mesh["dp"].get_group())
            parameter.grad /= dist.get_world_size()
        optimizer.step()
        losses.append(loss.detach())
        if monitored:
            accuracy = (logits.argmax(-1) == labels).double().mean()
            begin = time.perf_counter()
            values = monitor.log(step, accuracy if step % EVERY == 0 else None, num_examples=labels.numel())
            if values:
                times.append(1e3 * (time.perf_counter() - begin))
                rows.append({key: value for key, value in values.items() if not key.startswith("cost/")})
    if monitored:
        monitor.detach()
    return torch.stack(losses).cpu(), rows, times


def difference(rows, expected):
    """The greatest relative difference of a value, and its key; other keys are infinitely far."""
    worst = 0.0, ""
    for row, other in zip(rows, expected, strict=True):
        for key in row.keys() | other.keys():
            a, b = row.get(key, float("inf")), other.get(key, float("inf"))
            if not (a == b or (math.isnan(a) and math.isnan(b))):
                worst = max(worst, (abs(a - b) / max(abs(a), abs(b), 1e-12), key))
    return worst


def time_of_a_reduction():
    """Milliseconds of one reduction of 61 layers of 256 experts, the median of 20."""
    processes, times = Processes(), []
    sums = {"training/routing": torch.zeros(61 * 800, dtype=torch.float64)}
    for _ in range(21):
        dist.barrier()
        begin = time.perf_counter()
        processes.reduce(sums, {})
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


def main():
    global ALONE  # noqa: PLW0603 - a group that every process must make at the same moment
    has_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpus else torch.device("cpu")
    if has_gpus:
        torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("nccl" if has_gpus else "gloo")
    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    ALONE = groups[dist.get_rank()]
    mesh = init_device_mesh(device.type, (dist.get_world_size() // 2, 2), mesh_dim_names=("dp", "ep"))
    _, expected, alone_ms = train("one process", device, mesh, monitored=True)
    reduction = time_of_a_reduction()
    good = True
    for way in ("ddp", "fsdp2"):
        without, _, _ = train(way, device, mesh, monitored=False)
        losses, rows, times = train(way, device, mesh, monitored=True)
        worst, key = difference(rows, expected)
        good = good and torch.equal(losses, without) and worst < 1e-6
        if dist.get_rank() == 0:
            row = {
                "way": way,
                "processes": dist.get_world_size(),
                "backend": dist.get_backend(),
                "device": torch.cuda.get_device_name(device) if has_gpus else "cpu",
                "torch": torch.__version__,
                "losses_identical": torch.equal(losses, without),
                "worst_relative_difference": worst,
                "of": key,
                "num_values": sum(map(len, rows)),
                "log_ms": round(statistics.median(times), 2),
                "log_ms_of_one_process": round(statistics.median(alone_ms), 2),
                "reduction_ms_of_61_layers_256_experts": round(reduction, 2),
            }
            sys.stdout.write(json.dumps(row) + "\n")
    dist.destroy_process_group()
    sys.exit(not good)


if __name__ == "__main__":
    main()
