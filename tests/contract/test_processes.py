"""The value is the same on two processes, one of which has seen nothing."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import processes
from contract.cases import CASES
from intensive_callbacks.distributed import Processes
from intensive_callbacks.monitor.states import compute_unwrapped, put_states, take_states
from intensive_callbacks.monitor.window import Window


def _compute(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    values, fused = [], []
    for case in CASES:
        metric = case.build()
        for update in case.updates if rank == 0 else []:
            metric.update(**update)
        metric._update_count += 1  # the empty rank computes too
        values.append(metric.compute().tolist())
        sums, samples = take_states(metric)
        window = Window(sums={"metric": sums}, samples={"metric": samples}).reduced(Processes())
        put_states(metric, window.sums["metric"], window.samples["metric"])
        fused.append(compute_unwrapped(metric).tolist())
    results[rank] = values, fused
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    with mp.Manager() as manager:
        results = manager.dict()
        processes.run(_compute, (tmp_path_factory.mktemp("store") / "store", results), 2)
        return dict(results)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("sync", [0, 1], ids=["torchmetrics' own sync", "fused"])
def test_value_on_two_processes(values, rank, index, sync):
    expected = torch.as_tensor(CASES[index].expected, dtype=torch.float64)
    value = torch.tensor(values[rank][sync][index], dtype=torch.float64)
    torch.testing.assert_close(value, expected, rtol=CASES[index].tolerance, atol=1e-9, equal_nan=True)
