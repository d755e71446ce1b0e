"""Two processes: DDP and FSDP2 models are found, counted on each rank by what that rank saw, and left alone."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import processes
from intensive_callbacks import RouterObserver
from intensive_callbacks.routing.discovery import discover
from routing.designs import D, E, K, LinearGate, Megablocks


def build():
    torch.manual_seed(0)
    return nn.Sequential(LinearGate(), Megablocks())


def _count(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for kind in ("ddp", "fsdp"):
        model = build()
        if kind == "ddp":
            model = DistributedDataParallel(model, find_unused_parameters=True)
        else:
            for block in model:
                fully_shard(block)
            fully_shard(model)
        x = torch.randn(8 + 4 * rank, D, generator=torch.Generator().manual_seed(rank))
        with RouterObserver(model) as observer:
            for _ in range(2):
                model(x).sum().backward()
            for layer in observer.layers:
                name = layer.name.removeprefix("module.")
                results[kind, rank, name] = observer.statistics[layer.name].states()["load"].tolist()
                results[kind, rank, name, "size"] = sum(p.numel() for p in layer.expert_parameters())
        results[kind, rank, "buffers"] = len(list(model.buffers()))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with mp.Manager() as manager:
        shared = manager.dict()
        processes.run(_count, (tmp_path_factory.mktemp("store") / "store", shared), 2)
        return dict(shared)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_each_rank_counts_its_own_tokens(results, kind):
    sizes = {layer.name: sum(p.numel() for p in layer.expert_parameters()) for layer in discover(build())}
    for rank in range(2):
        x = torch.randn(8 + 4 * rank, D, generator=torch.Generator().manual_seed(rank))
        model = build()
        with RouterObserver(model) as observer:
            model(x)
        for name, statistics in observer.statistics.items():
            assert results[kind, rank, name] == [2 * count for count in statistics.states()["load"].tolist()]
            assert sum(results[kind, rank, name]) == 2 * K * len(x)
            assert len(results[kind, rank, name]) == E
            assert results[kind, rank, name, "size"] == sizes[name]
        assert results[kind, rank, "buffers"] == 0
