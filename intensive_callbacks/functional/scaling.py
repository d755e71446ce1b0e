"""Whether parameters and training data are in balance."""

from __future__ import annotations

import torch
from torch import Tensor

from intensive_callbacks.functional.checks import as_count, as_float64, require_broadcast, require_positive
from intensive_callbacks.functional.signatures import checked

__all__ = ["chinchilla_excess_loss", "chinchilla_loss", "chinchilla_optimality_index", "chinchilla_optimum"]

# Besiroglu et al. 2024, arXiv 2404.10102, who refitted the third approach of Hoffmann et al. 2022.
_IRREDUCIBLE, _A, _B, _ALPHA, _BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658


@checked
def chinchilla_optimality_index(
    num_params: float, num_tokens: float | Tensor, tokens_per_param: float = 20.0
) -> Tensor:
    r"""Chinchilla optimality index (COI): parameters per training token over their compute-optimal ratio.

    .. math:: COI = \frac{N / D}{(N / D)^*}, \quad (N / D)^* = 1 / 20

    Above 1 the model has seen too few tokens for its size (it is under-trained), below 1 more than are optimal for the
    compute it took (it is over-trained, as models that are to be cheap to run are on purpose).

    Args:
        num_params: N, total or active: say which, the verdict may turn on it.
        num_tokens: D, training tokens seen, of any shape.
        tokens_per_param: the optimal D / N.

    Returns:
        A plain number, of the shape of ``num_tokens``; NaN before the first token.

    Raises:
        ValueError: if ``num_params`` or ``tokens_per_param`` is not above 0, or ``num_tokens`` is a negative number.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 9; Hoffmann et al. 2022, arXiv 2203.15556.

    Example:
        >>> chinchilla_optimality_index(175e9, num_tokens=300e9)  # GPT-3
        tensor(11.6667, dtype=torch.float64)
    """
    ratio = require_positive("num_params", num_params) * require_positive("tokens_per_param", tokens_per_param)
    tokens = as_count("num_tokens", num_tokens)
    return torch.where(tokens > 0, ratio / tokens, torch.nan)


@checked
def chinchilla_loss(num_params: float | Tensor, num_tokens: float | Tensor) -> Tensor:
    """The loss that the scaling law expects of a dense language model, E + A / N^alpha + B / D^beta.

    Args:
        num_params: N, of any shape.
        num_tokens: D, training tokens, of a shape that broadcasts.

    Returns:
        Nats per token.

    Source:
        Besiroglu et al. 2024, arXiv 2404.10102: E 1.8172, A 482.01, B 2085.43, alpha 0.3478, beta 0.3658.

    Example:
        >>> chinchilla_loss(70e9, 1.4e12)  # Chinchilla
        tensor(1.9739, dtype=torch.float64)
    """
    params, tokens = _counts(num_params, num_tokens)
    return _IRREDUCIBLE + _A / params**_ALPHA + _B / tokens**_BETA


@checked
def chinchilla_optimum(num_params: float | Tensor, num_tokens: float | Tensor) -> tuple[Tensor, Tensor]:
    """The parameters and tokens of least loss for the compute that ``num_params`` and ``num_tokens`` take.

    Compute is taken to be proportional to N·D.

    Args:
        num_params: N, of any shape.
        num_tokens: D, training tokens, of a shape that broadcasts.

    Returns:
        (parameters, tokens), whose product is that of the arguments.

    Source:
        The law of :func:`chinchilla_loss`, minimized in closed form (Hoffmann et al. 2022, equation 4).

    Example:
        >>> params, tokens = chinchilla_optimum(175e9, 300e9)  # GPT-3
        >>> params / 1e9, tokens / 1e9
        (tensor(53.0235, dtype=torch.float64), tensor(990.1272, dtype=torch.float64))
    """
    params, tokens = _counts(num_params, num_tokens)
    compute = params * tokens
    balance = (_ALPHA * _A / (_BETA * _B)) ** (1.0 / (_ALPHA + _BETA))
    params = balance * compute ** (_BETA / (_ALPHA + _BETA))
    return params, compute / params


@checked
def chinchilla_excess_loss(num_params: float | Tensor, num_tokens: float | Tensor) -> Tensor:
    """What the loss of this balance of parameters and tokens is above the least for the same compute.

    It says what COI cannot: how much a given imbalance costs. The law is one of dense models.

    Args:
        num_params: N, of any shape.
        num_tokens: D, training tokens, of a shape that broadcasts.

    Returns:
        Nats per token, at least 0; NaN before the first token.

    Source:
        The law of :func:`chinchilla_loss`.

    Example:
        >>> chinchilla_excess_loss(175e9, 300e9)  # GPT-3
        tensor(0.0162, dtype=torch.float64)
    """
    excess = chinchilla_loss(num_params, num_tokens) - chinchilla_loss(*chinchilla_optimum(num_params, num_tokens))
    return torch.where(as_float64(num_tokens) > 0, excess, torch.nan)


def _counts(num_params: float | Tensor, num_tokens: float | Tensor) -> tuple[Tensor, Tensor]:
    params, tokens = as_count("num_params", num_params), as_count("num_tokens", num_tokens)
    require_broadcast(num_params=params, num_tokens=tokens)
    return params, tokens
