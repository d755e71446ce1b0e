"""Operators one at a time: products by their closed form, everything else without a count and without a warning."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from intensive_callbacks.footprint.flop_counter import FlopCounter
from intensive_callbacks.footprint.flops import count_flops

M, K, N = 4, 8, 5
PRODUCT = 2 * M * K * N
FLOAT8 = (torch.ones(16, 32).to(torch.float8_e4m3fn), torch.ones(16, 32).to(torch.float8_e4m3fn).t(), torch.ones(()))


def real(*shape):
    return torch.randn(*shape)


def imaginary(*shape):
    return torch.randn(*shape, dtype=torch.complex64)


PRODUCTS = {
    "mm": (lambda x: x(M, K) @ x(K, N), PRODUCT),
    "bmm": (lambda x: x(2, M, K) @ x(2, K, N), 2 * PRODUCT),
    "mv": (lambda x: x(M, K) @ x(K), 2 * M * K),
    "dot": (lambda x: torch.dot(x(K), x(K)), 2 * K),
    "vdot": (lambda x: torch.vdot(x(K), x(K)), 2 * K),
    "addmm": (lambda x: torch.addmm(x(M, N), x(M, K), x(K, N)), PRODUCT),
    "addmv": (lambda x: torch.addmv(x(M), x(M, K), x(K)), 2 * M * K),
    "baddbmm": (lambda x: torch.baddbmm(x(2, M, N), x(2, M, K), x(2, K, N)), 2 * PRODUCT),
    "linear": (lambda x: F.linear(x(M, K), x(N, K), x(N)), PRODUCT),
    "einsum": (lambda x: torch.einsum("ij,jk->ik", x(M, K), x(K, N)), PRODUCT),
    "tensordot": (lambda x: torch.tensordot(x(M, K), x(K, N), 1), PRODUCT),
    "inner": (lambda x: torch.inner(x(M, K), x(N, K)), PRODUCT),
    "multi_dot": (lambda x: torch.linalg.multi_dot([x(K, K)] * 3), 4 * K**3),
    "matrix_power": (lambda x: torch.linalg.matrix_power(x(K, K), 3), 4 * K**3),
}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_complex_product_is_four_real_ones(name, context):
    call, flops = PRODUCTS[name]
    for tensor, times in ((real, 1), (imaginary, 4)):
        with context(), FlopCounter() as counter:
            call(tensor)
        assert (counter.result().total, counter.result().uncounted) == (times * flops, {})


def test_a_complex_convolution_is_the_three_real_ones_that_run():
    with FlopCounter() as counter:
        F.conv1d(imaginary(1, 2, 8), imaginary(3, 2, 3))
    assert counter.result().total == 3 * 2 * (3 * 2 * 3) * 6


OTHERS = {
    "normalize": lambda: F.normalize(real(M, K)),
    "layer_norm": lambda: F.layer_norm(real(M, K), (K,)),
    "rms_norm": lambda: F.rms_norm(real(M, K), (K,)),
    "group_norm": lambda: F.group_norm(real(M, K, 3), 2),
    "batch_norm": lambda: F.batch_norm(real(M, K), None, None, training=True),
    "norm": lambda: torch.linalg.norm(real(M, K)),
    "foreach_norm": lambda: torch._foreach_norm([real(M)]),
    "cosine_similarity": lambda: F.cosine_similarity(real(M, K), real(M, K)),
    "pairwise_distance": lambda: F.pairwise_distance(real(M, K), real(M, K)),
    "embedding": lambda: F.embedding(torch.tensor([1, 2]), real(M, K)),
    "embedding_renorm": lambda: F.embedding(torch.tensor([1, 2]), real(M, K), max_norm=1.0),
    "embedding_bag": lambda: F.embedding_bag(torch.tensor([[1, 2]]), real(M, K)),
    "outer": lambda: torch.outer(real(M), real(K)),
    "addr": lambda: torch.addr(real(M, K), real(M), real(K)),
    "cross": lambda: torch.linalg.cross(real(M, 3), real(M, 3)),
    "interpolate": lambda: F.interpolate(real(1, 2, 4, 4, 4), scale_factor=2, mode="trilinear"),
    "grid_sample": lambda: F.grid_sample(real(1, 2, 4, 4), real(1, 3, 3, 2), align_corners=False),
    "avg_pool": lambda: F.avg_pool2d(real(1, 2, 4, 4), 2),
    "softmax": lambda: real(M, K).softmax(-1),
    "topk": lambda: real(M, K).topk(2),
    "index_add": lambda: torch.zeros(M, 2).index_add(0, torch.tensor([0, 1]), real(2, 2)),
    "complex elementwise": lambda: imaginary(M).conj().resolve_conj() * imaginary(M),
    "fftshift": lambda: torch.fft.fftshift(real(K)),
    "cross_entropy": lambda: F.cross_entropy(real(M, 3), torch.tensor([0, 1, 2, 0])),
}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", OTHERS)
def test_an_operator_without_products_costs_nothing(name, context):
    with context(), FlopCounter() as counter:
        OTHERS[name]()
    assert (counter.mode.by_operator.total(), dict(counter.mode.uncounted)) == (0, {})


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.linalg.solve(torch.eye(3), real(3, 2)),
        lambda: torch.linalg.cholesky(torch.eye(3)),
        lambda: torch.linalg.svd(real(3, 3)),
        lambda: torch.linalg.matrix_exp(real(3, 3)),
        lambda: torch.fft.fft(real(K)),
        lambda: torch.cdist(real(M, K), real(N, K)),
        lambda: F.bilinear(real(M, 3), real(M, 5), real(6, 3, 5)),
        lambda: torch.sparse.mm(real(M, K).to_sparse(), real(K, N)),
    ],
)
def test_a_product_without_a_formula_is_listed(call):
    with FlopCounter() as counter:
        call()
    assert counter.mode.uncounted


class Calls(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call, self.weight = call, nn.Parameter(real(K, K))

    def forward(self, x):
        return self.call(x, self.weight)


def told(call):
    """The count of one call, and what it warns about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = count_flops(Calls(call), real(M, K))
    return count, [str(each.message) for each in caught if "intensive_callbacks" in str(each.message)]


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: torch.complex(x, x) @ torch.complex(w, w),
        lambda x, w: F.linear(torch.complex(x, x), torch.complex(w, w), torch.complex(w[0], w[0])),
        lambda x, w: torch.einsum("ij,jk->ik", torch.complex(x, x), torch.complex(w, w)),
    ],
)
def test_both_mechanisms_count_complex_products_alike(call):
    count, warned = told(call)
    assert (count.total, count.traced, warned) == (4 * 2 * M * K * K,) * 2 + ([],)


def test_a_float8_product_is_counted_by_both_mechanisms():
    def product(x, w):
        a, b, scale = FLOAT8
        return torch._scaled_mm(a, b, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16)

    count, warned = told(product)
    assert (count.total, count.traced, count.uncounted, warned) == (2 * 16 * 32 * 16, 2 * 16 * 32 * 16, {}, [])


def test_code_that_branches_on_tracing_is_no_disagreement():
    count, warned = told(lambda x, w: x @ w @ w if torch.jit.is_tracing() else x @ w)
    assert (count.total, count.traced, warned) == (2 * M * K * K, None, [])
    count, warned = told(lambda x, w: (x[..., None] * w).sum(1) if torch.jit.is_tracing() else x @ w)
    assert (count.total, warned) == (2 * M * K * K, [])
