"""What runs in the processes of the tests of sharded models and shared batches."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from intensive_callbacks import Monitor, count_parameters
from intensive_callbacks.monitor.sharing import share_of


class Mixture(nn.Module):
    """A gate of 4 classes, and as many of the experts as this process holds."""

    def __init__(self, num_experts=4):
        super().__init__()
        self.top_k, self.gate = 2, nn.Linear(8, 4)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(num_experts))

    def forward(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(self.top_k)
        return sum((weights * (ids == e)).sum(-1, keepdim=True) * expert(x) for e, expert in enumerate(self.experts))


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.top_k, self.gate, self.experts = 2, nn.Linear(8, 4), nn.Module()
        self.experts.weight = nn.Parameter(torch.zeros(4, 8, 8))


def model():
    torch.manual_seed(0)
    return nn.Sequential(Mixture(), nn.Linear(8, 4))


class TwoPaths(nn.Module):
    """Keeps its body under a second name, as wrappers do."""

    def __init__(self):
        super().__init__()
        self.body = model()
        self.branch = nn.ModuleDict({"mixture": self.body[0]})

    def forward(self, x):
        return self.body(x)


def _logged(monitor, forward):
    """Active parameters behind P3 and all of them behind SAA."""
    x = torch.randn(16, 8)
    with monitor:
        monitor.observe(x)
        forward(x).sum().backward()
        values = monitor.log(1, 0.5, num_examples=16)
    active = 5e10 / values.get("intensive/p3_score", float("nan"))
    return [active, active / (1 - 2 * values.get("intensive/sparsity_adjusted_accuracy", float("nan")))]


def parameters(rank, world_size):
    warnings.simplefilter("ignore")
    mesh = init_device_mesh("cpu", (world_size,))
    found = {}

    def watched(net):
        return Monitor(net, every_n_steps=1, metrics=["P3", "SAA"], benchmark=None)

    net = model()
    monitor = watched(net)
    found["fsdp1 after the monitor"] = _logged(
        monitor, FullyShardedDataParallel(net, use_orig_params=True, device_id=torch.device("cpu"))
    )
    net = FullyShardedDataParallel(model(), use_orig_params=True, device_id=torch.device("cpu"))
    found["fsdp1 before the monitor"] = _logged(watched(net), net)
    refused = _refusal(net.module)  # FSDP1 is around it: only its marks tell
    net = fully_shard(model(), mesh=mesh)
    found["fsdp2"] = _logged(watched(net), net)
    net = model()
    found["ddp, the wrapper watched"] = _logged(watched(wrapped := DistributedDataParallel(net)), wrapped)
    net = TwoPaths()
    found["two paths"] = _logged(watched(net), net)
    net = model()
    plan = {f"0.experts.{e}": ColwiseParallel(output_layouts=Replicate()) for e in range(4)}
    plan["1"] = RowwiseParallel(input_layouts=Replicate())
    found["tensor parallel"] = _logged(watched(net), parallelize_module(net, mesh, plan))
    counts = {"spread": count_parameters(nn.Sequential(Mixture(4 // world_size), nn.Linear(8, 4)))}
    stacked = Stacked()
    weight = distribute_tensor(stacked.experts.weight.detach(), mesh, [Shard(0)])
    stacked.experts.register_parameter("weight", nn.Parameter(weight))
    counts["dtensor"] = count_parameters(nn.Sequential(stacked, nn.Linear(8, 4)))
    return found, {name: [c.total, c.active, c.num_bytes, c.num_local_bytes] for name, c in counts.items()}, refused


def _refusal(module):
    try:
        count_parameters(module)
    except ValueError as error:
        return str(error)


def shares(rank, world_size):
    """The share of each process in meshes of two dimensions, and what a Monitor counts of shared batches."""
    found = {}
    for names in (("dp", "tp"), ("dp", "cp"), ("pp", "dp"), ("dp_replicate", "dp_shard")):
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=names)
        net = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
        if "tp" in names:
            parallelize_module(net, mesh["tp"], {"1": ColwiseParallel(output_layouts=Replicate())})
        sharded = mesh["dp", "cp"]._flatten("dp_cp") if "cp" in names else mesh["dp"] if "dp" in names else mesh
        fully_shard(net, mesh=sharded)
        share = share_of(net)
        found[names] = share.index, share.size, share.repeats_tokens
        if "tp" in names:
            found["counts"] = _counts(net, mesh)
    found["unnamed"] = share_of(fully_shard(nn.Linear(8, 8), mesh=init_device_mesh("cpu", (4,)))).size
    return found


def _counts(net, mesh):
    """Two pairs of processes see 10 x 4 x 8 tokens each; in each pair only the second has an accuracy at the end."""
    with Monitor(net, every_n_steps=10, metrics=["P3", "COI"], benchmark=None) as monitor:
        for step in range(1, 11):
            seed = 10 * step + mesh["dp"].get_local_rank()
            batch = {"input_ids": torch.randint(50, (4, 8), generator=torch.Generator().manual_seed(seed))}
            monitor.observe(batch)
            net(batch["input_ids"]).float().square().mean().backward()
            is_last = mesh["tp"].get_local_rank() == 1
            monitor.log(step, 0.5 if step < 10 or is_last else None, num_examples=100)
    facts = monitor.facts
    return facts.seen_tokens, facts.seen_examples, facts.accuracy, facts.num_examples


def baseline(rank, world_size):
    """Untrained accuracies of 0.2 over 30 and 0.4 over 10 examples on the first two processes; the others have none."""
    net = nn.Linear(8, 3)
    with Monitor(net, every_n_steps=1, benchmark=None) as monitor:
        if rank < 2:
            monitor.measured_baseline([0.2, 0.4][rank], [30, 10][rank])
        monitor.observe(torch.zeros(2, 8))
        net(torch.zeros(2, 8))
        return monitor.log(1, 0.5, num_examples=2)


def subgroup(rank, world_size):
    """Two models, trained by two processes each, of which each pair logs at other steps."""
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    net = nn.Linear(8, 3)
    rows = []
    with Monitor(net, every_n_steps=1, metrics=["P3"], benchmark=None, process_group=pairs[rank // 2]) as monitor:
        for step in range(1, 3 + rank // 2):
            monitor.observe(torch.zeros(2, 8))
            net(torch.zeros(2, 8))
            rows.append(monitor.log(step, rank / 4, num_examples=2)["intensive/p3_score"] * 27e-11)
    return rows
