from __future__ import annotations

import pytest
import torch
from torch import nn

from intensive_callbacks.footprint.memory import (
    MemoryMeter,
    peak_inference_bytes,
    peak_training_bytes,
    resident_bytes,
    size_on_disk,
)

WEIGHTS = 100 * 200 + 200 * 50


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(100, 200, bias=False), nn.ReLU(), nn.Linear(200, 50, bias=False))


@pytest.fixture
def batch():
    return torch.randn(10, 100)


def test_resident_weights_count_what_is_shared_once():
    tied = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8))
    tied[1].weight = tied[0].weight
    assert resident_bytes(tied) == 4 * (64 + 8 + 8 + 8 + 8) + 8


def test_peak_of_inference_by_hand(net, batch):
    """The most is alive inside the ReLU: weights, batch, and its input and output of 10 x 200."""
    assert peak_inference_bytes(net, batch) == 4 * (WEIGHTS + 1000 + 2000 + 2000)


def test_peak_of_training_by_hand(net, batch):
    """The most is alive when the first weight's gradient is formed.

    Then there are the weights, the batch, the second weight's gradient, the gradient of the hidden layer, the loss and
    its gradient; what the ReLU kept is gone already.
    """
    expected = 4 * (WEIGHTS + 1000 + 200 * 50 + 2000 + 100 * 200 + 2)
    assert peak_training_bytes(net, lambda: net(batch).sum()) == expected


def test_meter_around_a_real_step_sees_the_optimizer(net, batch):
    optimizer = torch.optim.Adam(net.parameters(), foreach=False)
    with MemoryMeter(net) as meter:
        net(batch).sum().backward()
        optimizer.step()
    # Weights, gradients and two moments of each are there at the end.
    assert meter.peak_bytes >= 4 * (4 * WEIGHTS + 1000)
    assert meter.peak_bytes < 4 * (6 * WEIGHTS)


def test_a_late_reader_was_there_at_every_earlier_peak():
    early, late = torch.ones(1000), torch.ones(50)
    with MemoryMeter(nn.Identity()) as meter:
        early + early
        late + 1
    assert meter.peak_bytes == 4 * (1000 + 1000 + 50)


def test_measuring_leaves_no_trace(batch):
    net = nn.Sequential(nn.Linear(100, 20), nn.BatchNorm1d(20), nn.Dropout()).train()
    net(batch).sum().backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    state = torch.get_rng_state()
    peak_training_bytes(net, lambda: net(batch).sum())
    peak_inference_bytes(net, batch)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(torch.equal(old, new.grad) for old, new in zip(gradients, net.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert net.training
    assert net[1].training


def test_size_on_disk_is_that_of_the_files(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1000, dtype=torch.int8)}, tmp_path / "model-00001.safetensors")
    save_file({"b": torch.zeros(500)}, tmp_path / "model-00002.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 9999)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 100)
    size = size_on_disk(tmp_path)
    assert 3000 < size < 3400  # the elements and two short headers
    one = tmp_path / "model-00001.safetensors"
    assert size_on_disk(one) == len(one.read_bytes())


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights in .*safetensors"):
        size_on_disk(tmp_path)
