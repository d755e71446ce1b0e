"""A transformers Trainer on two processes: the values of one process."""

import os
import socket
import warnings

import pytest
import torch
import torch.multiprocessing as mp

import processes
from intensive_callbacks import IntensiveTrainerCallback

pytest.importorskip("transformers")
SETTINGS = {"every_n_steps": 3, "random_baseline": 1 / 3, "benchmark": None, "observe": "every_step"}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _train(rank, world_size, port, folder, results):
    from callback.test_transformers import train, without_costs

    torch.set_num_threads(1)
    if world_size > 1:  # as torchrun does it
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
        os.environ.update({name: str(place) for name, place in places.items()}, MASTER_ADDR="127.0.0.1")
    callback = IntensiveTrainerCallback(**SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A learning rate of 0: what is measured depends on the data alone.
        settings = {"per_device_train_batch_size": 8 // world_size, "per_device_eval_batch_size": 16 // world_size}
        train(folder, [callback], learning_rate=0.0, **settings)
    results[rank] = without_costs(callback.history), callback.monitor.facts.seen_examples
    if world_size > 1:
        torch.distributed.destroy_process_group()


def rows(tmp_path, world_size):
    with mp.Manager() as manager:
        results = manager.dict()
        arguments = world_size, _free_port(), tmp_path / str(world_size), results
        processes.run(_train, arguments, world_size)
        return [results[rank] for rank in range(world_size)]


def test_two_processes_log_what_one_does(tmp_path):
    ((alone, examples),) = rows(tmp_path, 1)
    for values, seen in rows(tmp_path, 2):
        assert seen == examples == 96
        assert [row.keys() for row in values] == [row.keys() for row in alone]
        for row, expected in zip(values, alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-6)
