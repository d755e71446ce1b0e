"""How much information passes a model for its size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from intensive_callbacks.functional.checks import LARGEST, as_float64
from intensive_callbacks.functional.signatures import checked

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["effective_compression_ratio"]


@checked
def effective_compression_ratio(bits: float | Tensor, num_params: float) -> Tensor:
    r"""Effective compression ratio (ECR): the information from input to output, per binary order of magnitude of size.

    .. math:: ECR = I(X; Y) / \log_2 N

    The number is as good as its numerator, whose estimators are in ``predictions``, ``gaussian`` and ``neighbors``.
    It is information per logarithm of the parameters, not per parameter, so it hardly moves with size.

    Args:
        bits: mutual information of input and output, in bits, of any shape.
        num_params: N, every parameter once.

    Returns:
        Bits per log2 of the parameters, of the shape of ``bits``; NaN with one parameter or none.

    Raises:
        ValueError: if ``num_params`` is negative or not finite.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 7.

    Example:
        >>> effective_compression_ratio(800.0, num_params=86e6)
        tensor(30.3515, dtype=torch.float64)
    """
    if not 0 <= num_params <= LARGEST:
        raise ValueError(f"num_params must be a finite number of at least 0, got {num_params}")
    return as_float64(bits) / (math.log2(num_params) if num_params > 1 else math.nan)
