"""FLOPs of each operator from the shapes of its arguments: 2 for each multiplication with its addition.

Products and convolutions are counted, elementwise work is not. A complex multiplication with its addition is four real
ones. Each formula takes the operator's arguments by the names
of its schema and its output; anything with a ``shape`` will do for a tensor, so the same formulas serve tensors and
values of a traced graph. An operator that has no formula here may have one in
``torch.utils.flop_counter.register_flop_formula``, which is where users add their own kernels.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Arguments = Mapping[str, Any]
    Formula = Callable[[Arguments, Any], int]

__all__ = ["FORMULAS", "causal_discount", "is_product_like"]


def _contraction(operand: str) -> Formula:
    """Each output element sums over the last dimension of this operand."""
    return lambda given, out: 2 * _elements(out) * _width(given[operand])


def _elements(tensor: Any) -> int:
    return int(tensor.numel() if getattr(tensor, "is_nested", False) else prod(tensor.shape))


def _width(tensor: Any) -> int:
    """The last dimension, which is all that the sequences of a nested tensor must share."""
    return int(tensor.size(-1) if getattr(tensor, "is_nested", False) else tensor.shape[-1])


def _sum_of_products(given: Arguments, out: Any) -> int:
    return int(2 * prod(given["batch1"].shape) * out.shape[-1])


def _grouped_product(given: Arguments, out: Any) -> int:
    # Two matrices are cut along the dimension they share: each group sums over its own part of it.
    groups = out.shape[0] if len(given["self"].shape) == len(given["mat2"].shape) == 2 else 1
    return int(2 * prod(out.shape) * given["self"].shape[-1] // groups)


def _convolution_of(inputs: Any, weight: Any, out: Any, *, transposed: bool) -> int:
    positions = (inputs if transposed else out).shape[2:]
    return int(2 * inputs.shape[0] * prod(positions) * prod(weight.shape))


def _convolution(given: Arguments, out: Any) -> int:
    inputs = given["input"] if "input" in given else given["self"]
    return _convolution_of(inputs, given["weight"], out, transposed=bool(given.get("transposed", False)))


def _convolution_backward(given: Arguments, _: Any) -> int:
    forward = _convolution_of(given["input"], given["weight"], given["grad_output"], transposed=given["transposed"])
    return int(forward * sum(given["output_mask"][:2]))


def _scores_and_mix(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> tuple[int, int]:
    """FLOPs of the two products of attention, queries with keys and scores with values; key heads may be fewer."""
    pairs = prod(query[:-1]) * key[-2]
    return 2 * pairs * query[-1], 2 * pairs * value[-1]


def _attention(given: Arguments, _: Any) -> int:
    return sum(_scores_and_mix(given["query"].shape, given["key"].shape, given["value"].shape))


def _attention_backward(given: Arguments, _: Any) -> int:
    # The fused kernels keep no scores: they recompute them, then one product each for q, k, v and the scores.
    scores, mix = _scores_and_mix(given["query"].shape, given["key"].shape, given["value"].shape)
    return 3 * scores + 2 * mix


def _matrices(tensors: Sequence[Any]) -> int:
    """Elements of the weight matrices among a recurrent layer's parameters."""
    return sum(int(prod(tensor.shape)) for tensor in tensors if len(tensor.shape) == 2)


def _recurrent(weights: Callable[[Arguments], Sequence[Any]], steps: str = "input", times: int = 1) -> Formula:
    """Every step of every sequence is multiplied by every weight matrix once."""
    return lambda given, _: times * 2 * prod(given[steps].shape[:-1]) * _matrices(weights(given))


def _lengths(tokens: Any) -> list[int]:
    """Length of each sequence; those of a nested tensor differ."""
    if getattr(tokens, "is_nested", False):
        return [len(sequence) for sequence in tokens.unbind()]
    batch, length, _ = tokens.shape
    return [length] * batch


def _self_attention(tokens: Any, width: int) -> int:
    """Projections in and out, scores and mix, of the encoder's fast path."""
    lengths = _lengths(tokens)
    return 8 * sum(lengths) * width**2 + 4 * sum(length**2 for length in lengths) * width


def _native_attention(given: Arguments, _: Any) -> int:
    return _self_attention(given["query"], given["embed_dim"])


def _encoder_layer(given: Arguments, _: Any) -> int:
    feed_forward = _matrices((given["ffn_weight_1"], given["ffn_weight_2"]))
    return _self_attention(given["src"], given["embed_dim"]) + 2 * sum(_lengths(given["src"])) * feed_forward


def _by_name(formula: Formula, names: str) -> dict[str, Formula]:
    return dict.fromkeys(names.split(), formula)


_FUSED_ATTENTION = (
    "flash_attention_for_cpu",
    "flash_attention",
    "efficient_attention",
    "cudnn_attention",
    "fused_attention_overrideable",
)

FORMULAS: dict[str, Formula] = {
    **_by_name(
        _contraction("self"),
        "aten::mm aten::bmm aten::mv aten::dot aten::vdot aten::_int_mm aten::_scaled_mm aten::_scaled_mm_v2 "
        "aten::_weight_int4pack_mm aten::_weight_int4pack_mm_for_cpu aten::_weight_int8pack_mm aten::mkldnn_linear",
    ),
    **_by_name(_contraction("theta"), "aten::affine_grid_generator"),
    **_by_name(_contraction("mat1"), "aten::addmm aten::_addmm_activation"),
    **_by_name(_contraction("mat"), "aten::addmv"),
    **_by_name(_contraction("batch1"), "aten::baddbmm"),
    **_by_name(_contraction("input"), "aten::linear aten::_mixed_dtypes_linear"),
    **_by_name(_contraction("inp"), "aten::_dyn_quant_matmul_4bit"),
    **_by_name(
        _contraction("X"),
        "quantized::linear quantized::linear_relu quantized::linear_dynamic quantized::linear_relu_dynamic "
        "quantized::linear_dynamic_fp16 quantized::linear_relu_dynamic_fp16 mkldnn::_linear_pointwise",
    ),
    **_by_name(_contraction("qx"), "onednn::qlinear_pointwise"),
    **_by_name(_sum_of_products, "aten::addbmm"),
    **_by_name(_grouped_product, "aten::_grouped_mm aten::_scaled_grouped_mm aten::_scaled_grouped_mm_v2"),
    **_by_name(
        _convolution,
        "aten::convolution aten::_convolution aten::convolution_overrideable aten::mkldnn_convolution "
        "aten::cudnn_convolution aten::_slow_conv2d_forward",
    ),
    **_by_name(_convolution_backward, "aten::convolution_backward aten::convolution_backward_overrideable"),
    **{f"aten::_scaled_dot_product_{name}": _attention for name in _FUSED_ATTENTION},
    **{f"aten::_scaled_dot_product_{name}_backward": _attention_backward for name in _FUSED_ATTENTION},
    **_by_name(_attention, "aten::scaled_dot_product_attention"),
    **_by_name(_recurrent(lambda given: (given["weight0"], given["weight1"])), "aten::mkldnn_rnn_layer"),
    **_by_name(
        _recurrent(lambda given: (given["weight1"], given["weight2"]), times=2), "aten::mkldnn_rnn_layer_backward"
    ),
    **_by_name(_recurrent(lambda given: given["weight"]), "aten::_cudnn_rnn aten::miopen_rnn"),
    **_by_name(
        _recurrent(lambda given: given["weight"], times=2), "aten::_cudnn_rnn_backward aten::miopen_rnn_backward"
    ),
    **_by_name(_recurrent(lambda given: given["params"]), "aten::_lstm_mps"),
    **_by_name(_native_attention, "aten::_native_multi_head_attention"),
    **_by_name(_encoder_layer, "aten::_transformer_encoder_layer_fwd"),
}

_PRODUCT = re.compile(
    # "mm" as in addmm, not as in lgamma, cummin and dummy; "solve" not as in resolve_conj
    r"mm(?![aiy])|mv(?!l)|dot|matmul|conv(?!ert)|linear(?!1d)|_rnn|lstm|gru|attention|linalg|fft|_dist(?!rib|ance)"
    r"|cdist|pdist|(?<!re)solve|cholesky|geqrf|ormqr|trilinear(?!3d)"
)
_NO_PRODUCT = re.compile(
    # The elementwise part of a gate, after its products; choosing a kernel; packing of weights; interpolation.
    r"_thnn_fused|_choice|flatten|reorder|prepack|upsample|_compute_linear_combination|commit"
    # Reductions, elementwise products and bookkeeping among the linear algebra and the Fourier transforms.
    r"|_norm$|_powsum|_cross$|_diagonal$|_vander$|_check_errors|fftfreq|fftshift|cufft"
)
_WITHOUT_PRODUCTS = frozenset(
    ("prim", "prims", "rngprims", "inductor", "c10d", "_c10d_functional", "c10d_functional", "fsdp", "profiler")
)


def is_product_like(operator: str) -> bool:
    """Whether an operator, by its qualified name, may multiply matrices; one that has no formula is then reported.

    Of torch's own operators it goes by their names; a kernel from elsewhere may do anything.

    Example:
        >>> is_product_like("aten::_sparse_mm"), is_product_like("aten::relu"), is_product_like("mine::kernel")
        (True, False, True)
    """
    namespace, _, name = operator.partition("::")
    if namespace in _WITHOUT_PRODUCTS or _NO_PRODUCT.search(name):
        return False
    return namespace != "aten" or bool(_PRODUCT.search(name))


def real_products(dtype: Any) -> int:
    """Real products in one product of this type: 4 if it is complex."""
    return 4 if getattr(dtype, "is_complex", False) else 1


def causal_discount(given: Arguments, num_flops: int) -> int:
    """The part of an attention's FLOPs that lies above the diagonal, which a kernel with ``is_causal`` may skip."""
    if not given.get("is_causal"):
        return 0
    num_queries, num_keys = given["query"].shape[-2], given["key"].shape[-2]
    seen = sum(min(position + 1, num_keys) for position in range(num_queries))
    return num_flops - int(num_flops * seen // (num_queries * num_keys))
