"""What only a GPU can show: its allocator's peak, its energy counter, its kernels' FLOPs."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from footprint.flop_cases import (
    CASES,
    EXPERTS,
    HIDDEN,
    IDS,
    RECOMPUTED,
    TOKENS,
    D,
    Decoder,
    FusedMoE,
    decoder_flops,
    linear,
)
from intensive_callbacks.footprint.energy import EnergyMeter
from intensive_callbacks.footprint.flop_counter import FlopCounter
from intensive_callbacks.footprint.memory import MemoryMeter, peak_inference_bytes, peak_training_bytes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_peak_is_the_allocator_s_own():
    model = nn.Linear(1024, 1024, bias=False, device="cuda")
    batch = torch.randn(1024, 1024, device="cuda")
    model(batch)  # cuBLAS keeps a workspace from its first call on
    before = torch.cuda.memory_allocated()
    assert peak_inference_bytes(model, batch) == before + 4 * 1024**2
    # The output is gone when the weight's gradient is formed, but not its own gradient.
    assert peak_training_bytes(model, lambda: model(batch).sum()) >= before + 2 * 4 * 1024**2
    assert all(parameter.grad is None for parameter in model.parameters())


def test_meter_sees_what_came_and_went():
    model = nn.Linear(1, 1, device="cuda")
    before = torch.cuda.memory_allocated()
    with MemoryMeter(model) as meter:
        torch.zeros(2**20, device="cuda")
    assert meter.peak_bytes >= before + 4 * 2**20
    assert torch.cuda.memory_allocated() == before


def test_energy_grows_with_work_and_is_plausible():
    pytest.importorskip("pynvml")
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    joules = {}
    for name in ("idle", "busy"):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with EnergyMeter() as meter:
            while time.perf_counter() - start < 2.0:
                if name == "busy":
                    matrix @ matrix
                    torch.cuda.synchronize()
        joules[name] = meter.joules
    assert joules["idle"] is not None
    assert 2.0 * 10 < joules["idle"] < joules["busy"] < 2.5 * 1000


@pytest.mark.parametrize(
    "backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH, SDPBackend.CUDNN_ATTENTION]
)
def test_every_attention_kernel_counts_the_same(backend):
    model = Decoder().to("cuda", torch.bfloat16)
    with sdpa_kernel(backend), FlopCounter(model) as counter:
        loss = model(IDS.cuda()).float().sum()
        forward = counter.result()
        loss.backward()
    assert forward.total == decoder_flops()
    # All but the unfused one recompute the scores.
    recomputed = 0 if backend is SDPBackend.MATH else RECOMPUTED
    assert counter.result().total == 3 * decoder_flops() + recomputed
    assert counter.result().uncounted == {}


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("lstm", "gru")], ids=lambda case: case.name)
def test_cudnn_recurrent_layers(case):
    model = case.build().cuda().train()
    batch = case.args[0].cuda().requires_grad_()
    with FlopCounter(model) as counter:
        output = model(batch)[0]
        assert counter.result().total == case.flops
        output.sum().backward()
    assert counter.result().total == 3 * case.flops


def test_grouped_experts():
    model = FusedMoE(grouped=True).cuda()
    batch = torch.randn(2, TOKENS // 2, D, device="cuda")
    with FlopCounter(model) as counter:
        model(batch)
    assert counter.result().total == linear(TOKENS, D, EXPERTS) + 2 * 2 * linear(TOKENS, D, HIDDEN)
