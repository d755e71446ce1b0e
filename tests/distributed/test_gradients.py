"""Two processes, whose own gradients differ from the average that DDP leaves in .grad."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import processes
from distributed import workers
from intensive_callbacks import CriticalBatchSize
from intensive_callbacks.gradients import GradientNorms, squared_gradient_norm


def example():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 3)).double()
    return model, torch.randn(2, 2, 8, 6, dtype=torch.float64), torch.randn(2, 2, 8, 3, dtype=torch.float64)


def backward(model, inputs, targets):
    nn.functional.mse_loss(model(inputs), targets).backward()


def _train(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model, inputs, targets = example()
    wrapped = DistributedDataParallel(model, bucket_cap_mb=1e-4)
    norms = GradientNorms(wrapped)
    read = []
    for batches in ([0], [1], [0, 1]):
        wrapped.zero_grad()
        for batch in batches:
            if batch != batches[-1]:
                with wrapped.no_sync():
                    backward(wrapped, inputs[rank, batch], targets[rank, batch])
            else:
                backward(wrapped, inputs[rank, batch], targets[rank, batch])
        read.append([norm.item() for norm in norms.read()])
    try:
        norms.read()
    except RuntimeError as error:
        read.append(str(error))
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    results[rank] = read, gradient
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with mp.Manager() as manager:
        shared = manager.dict()
        processes.run(_train, (tmp_path_factory.mktemp("store") / "store", shared), 2)
        return dict(shared)


def gradients(batches):
    """Of each process alone, accumulated over the batches."""
    model, inputs, targets = example()
    rows = []
    for rank in range(2):
        model.zero_grad()
        for batch in batches:
            backward(model, inputs[rank, batch], targets[rank, batch])
        rows.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("round_", "batches"), [(0, [0]), (1, [1]), (2, [0, 1])])
def test_own_and_average_norms_are_those_of_the_processes_apart(results, rank, round_, batches):
    alone = gradients(batches)
    expected = [alone[rank].square().sum().item(), alone.mean(0).square().sum().item()]
    assert results[rank][0][round_] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_gradient_stays_the_average(results, rank):
    read, gradient = results[rank]
    torch.testing.assert_close(gradient, gradients([0, 1]).mean(0))
    assert "no gradient has been reduced" in read[-1]


def test_norms_of_an_accumulation_on_one_process_feed_the_metric():
    model, inputs, targets = example()
    metric = CriticalBatchSize(small_batch_size=8, large_batch_size=16, decay=1.0)
    backward(model, inputs[0, 0], targets[0, 0])
    small = squared_gradient_norm(model)
    backward(model, inputs[0, 1], targets[0, 1])
    large = squared_gradient_norm(model) / 4
    metric.update(small, large)
    noise = (small - large) / (1 / 8 - 1 / 16)
    assert metric.noise.item() == pytest.approx(noise.item())


def train_with_and_without(rank, world_size):
    gradients = []
    for measured in (False, True):
        model, inputs, targets = example()
        wrapped = DistributedDataParallel(model.float())
        if measured:
            GradientNorms(wrapped)
        backward(wrapped, inputs[rank % 2, 0].float() + rank, targets[rank % 2, 0].float())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return gradients


def test_the_average_over_three_processes_is_ddps_own_to_the_bit(tmp_path):
    for without, measured in workers.spawn(3, tmp_path, train_with_and_without):
        assert torch.equal(without, measured)
