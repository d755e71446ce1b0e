"""Processes for tests: forked from one that has imported torch and Lightning already, which takes most of the time."""

import multiprocessing

import torch.multiprocessing as mp

PRELOADED = [
    "torch",
    "torch.distributed.fsdp",
    "pytorch_lightning",
    "intensive_callbacks.monitor",
    "intensive_callbacks.callback",
]


def run(function, arguments, num_processes):
    """Call ``function(rank, *arguments)`` in each of so many processes and wait for them."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    mp.start_processes(function, args=arguments, nprocs=num_processes, start_method="forkserver")
