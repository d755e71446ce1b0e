"""Weights of which several are packed into one number: logical elements, and all bytes, by hand."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from intensive_callbacks.footprint.memory import resident_bytes
from intensive_callbacks.footprint.parameters import count_parameters
from intensive_callbacks.footprint.weights import Weights

INPUTS, OUTPUTS = 256, 128
WEIGHTS = INPUTS * OUTPUTS


class Params4bit(nn.Parameter):
    """As bitsandbytes': two weights a byte, with the state that unpacks them as an attribute."""

    def __new__(cls, state):
        self = torch.Tensor._make_subclass(cls, torch.zeros(WEIGHTS // 2, 1, dtype=torch.uint8), False)
        self.quant_state = state
        return self


def quant_state(*, nested):
    """One scale per 64 weights, of which a nested state keeps the bytes that 256 of them share a scale of."""
    dtype = torch.uint8 if nested else torch.float32
    state = SimpleNamespace(absmax=torch.zeros(WEIGHTS // 64, dtype=dtype), code=torch.zeros(16), blocksize=64)
    state.shape, state.state2, state.offset = torch.Size((OUTPUTS, INPUTS)), None, None
    if nested:
        state.offset = torch.zeros(())
        state.state2 = SimpleNamespace(absmax=torch.zeros(WEIGHTS // 64 // 256), code=torch.zeros(256), shape=None)
    return state


class Linear4bit(nn.Linear):
    def __init__(self, *, nested=False, at_module=False):
        super().__init__(INPUTS, OUTPUTS)
        state = quant_state(nested=nested)
        self.weight = Params4bit(None if at_module else state)
        if at_module:
            self.quant_state = state


class HQQLinear(nn.Module):
    """As HQQ's: packed in groups, everything else in a dict, the bias a plain tensor."""

    def __init__(self, bits):
        super().__init__()
        self.bias = torch.zeros(OUTPUTS)
        self.W_q = nn.Parameter(torch.zeros(WEIGHTS // 64 * bits // 8, 64, dtype=torch.uint8), requires_grad=False)
        scales = {"scale": torch.zeros(WEIGHTS // 64, 1), "zero": torch.zeros(WEIGHTS // 64, 1)}
        self.meta = {"nbits": bits, "shape": torch.Size((OUTPUTS, INPUTS)), **scales}


class GptqLinear(nn.Module):
    """As GPTQ's and AWQ's: eight weights in an int32, all in buffers."""

    def __init__(self):
        super().__init__()
        self.in_features, self.out_features = INPUTS, OUTPUTS
        self.register_buffer("qweight", torch.zeros(INPUTS // 8, OUTPUTS, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(INPUTS // 64, OUTPUTS // 8, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(INPUTS // 64, OUTPUTS, dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(INPUTS, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(OUTPUTS, dtype=torch.float16))


class CompressedLinear(nn.Module):
    """As compressed-tensors': eight weights in an int32, the shape a parameter beside them."""

    def __init__(self):
        super().__init__()
        packed = torch.zeros(OUTPUTS, INPUTS // 8, dtype=torch.int32)
        self.weight_packed = nn.Parameter(packed, requires_grad=False)
        self.weight_scale = nn.Parameter(torch.zeros(OUTPUTS, INPUTS // 128, dtype=torch.bfloat16))
        self.weight_shape = nn.Parameter(torch.tensor([OUTPUTS, INPUTS]), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(OUTPUTS))


class FP8Linear(nn.Module):
    """As transformers': one byte a weight, a scale for each block of 128 x 128."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(OUTPUTS, INPUTS, dtype=torch.float8_e4m3fn), requires_grad=False)
        self.weight_scale_inv = nn.Parameter(torch.zeros(OUTPUTS // 128, INPUTS // 128))
        self.bias = nn.Parameter(torch.zeros(OUTPUTS))


SCALES = WEIGHTS // 64
LAYERS = {
    "bitsandbytes": (Linear4bit(), WEIGHTS // 2 + 4 * (SCALES + 16 + OUTPUTS)),
    "bitsandbytes nested": (
        Linear4bit(nested=True),
        WEIGHTS // 2 + SCALES + 4 * (16 + 1 + SCALES // 256 + 256 + OUTPUTS),
    ),
    "bitsandbytes state at the module": (Linear4bit(at_module=True), WEIGHTS // 2 + 4 * (SCALES + 16 + OUTPUTS)),
    "hqq 4 bits": (HQQLinear(4), WEIGHTS // 2 + 4 * (2 * SCALES + OUTPUTS)),
    "hqq 2 bits": (HQQLinear(2), WEIGHTS // 4 + 4 * (2 * SCALES + OUTPUTS)),
    "gptq": (GptqLinear(), WEIGHTS // 2 + SCALES // 2 + 2 * SCALES + 4 * INPUTS + 2 * OUTPUTS),
    "compressed-tensors": (CompressedLinear(), WEIGHTS // 2 + 2 * OUTPUTS * INPUTS // 128 + 16 + 4 * OUTPUTS),
    "float8": (FP8Linear(), WEIGHTS + 4 * WEIGHTS // 128**2 + 4 * OUTPUTS),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("error")
def test_logical_parameters_and_all_bytes(name):
    layer, num_bytes = LAYERS[name]
    count = count_parameters(nn.Sequential(layer, nn.Linear(3, 2)))
    assert (count.total, count.active, count.num_bytes) == (WEIGHTS + OUTPUTS + 8,) * 2 + (num_bytes + 4 * 8,)


def test_a_packed_layer_that_is_reached_twice_counts_once():
    layer = Linear4bit()
    count = count_parameters(nn.ModuleDict({"first": layer, "again": nn.Sequential(layer)}))
    assert (count.total, count.num_bytes) == (WEIGHTS + OUTPUTS, LAYERS["bitsandbytes"][1])


class Mixture(nn.Module):
    def __init__(self, expert):
        super().__init__()
        self.top_k, self.gate = 1, nn.Linear(INPUTS, 4)
        self.experts = nn.ModuleList(expert() for _ in range(4))


@pytest.mark.parametrize("expert", [Linear4bit, lambda: HQQLinear(4), GptqLinear, CompressedLinear])
def test_packed_experts_are_as_active_as_others(expert):
    holder = Mixture(expert)
    for module in holder.experts:  # the search for experts looks at parameters
        module.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    count, plain = count_parameters(holder), count_parameters(Mixture(lambda: nn.Linear(INPUTS, OUTPUTS)))
    assert (count.routed, count.active) == (plain.routed + 4, plain.active + 1)


class Mxfp4Experts(nn.Module):
    """As gpt-oss': two weights a byte along the last dimension, a scale for 32 of them."""

    def __init__(self):
        super().__init__()
        self.up_blocks = nn.Parameter(torch.zeros(4, 64, 2, 16, dtype=torch.uint8), requires_grad=False)
        self.up_scales = nn.Parameter(torch.zeros(4, 64, 2, dtype=torch.uint8), requires_grad=False)
        self.down = nn.Parameter(torch.zeros(4, 64, 32, dtype=torch.uint8), requires_grad=False)


def test_stacked_4_bit_experts_are_as_active_as_others():
    block = nn.Module()
    block.top_k, block.gate, block.experts = 2, nn.Linear(64, 4), Mxfp4Experts()
    count = count_parameters(block)
    assert (count.routed, count.router, count.active) == (2 * 4 * 64 * 64, 260, 2 * 2 * 64 * 64 + 260)
    assert count.num_bytes == (2 * 4 * 64 * 32 + 4 * 64 * 2) + 4 * 260


def test_a_packed_weight_that_says_nothing_is_a_warning():
    model = nn.Module()
    model.codes = nn.Parameter(torch.zeros(8, 4, dtype=torch.uint8), requires_grad=False)
    with pytest.warns(UserWarning, match=r"codes \(1 in all\) hold packed weights of unknown number"):
        assert count_parameters(model).total == 32


@pytest.mark.filterwarnings("error")
def test_integers_that_are_no_packed_weights():
    model = nn.Linear(4, 4)
    model.positions = nn.Parameter(torch.arange(7), requires_grad=False)
    model.register_buffer("index", torch.zeros(3, 3, dtype=torch.int32))
    model.scale = nn.Parameter(torch.ones(4))
    count = count_parameters(model)
    assert (count.total, count.num_bytes) == (20 + 7 + 4, 4 * 24 + 8 * 7 + 4 * 9)
    assert Weights(model).beside == []


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_itself(kind, nested):
    nn4 = pytest.importorskip("bitsandbytes").nn
    layer = nn4.Linear4bit(INPUTS, OUTPUTS, quant_type=kind, compress_statistics=nested).to("cpu")
    count = count_parameters(layer)
    assert count.total == WEIGHTS + OUTPUTS
    assert count.num_bytes == LAYERS["bitsandbytes nested" if nested else "bitsandbytes"][1] + 4 * nested * (
        -(-SCALES // 256) - SCALES // 256
    )


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_hqq_itself(bits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize = pytest.importorskip("hqq.core.quantize")
    config = quantize.BaseQuantizeConfig(nbits=bits, group_size=64)
    layer = quantize.HQQLinear(nn.Linear(INPUTS, OUTPUTS), config, compute_dtype=torch.float32, device="cpu")
    assert count_parameters(layer).total == WEIGHTS + OUTPUTS
    assert resident_bytes(layer) == WEIGHTS * bits // 8 + 4 * (2 * SCALES + OUTPUTS)
