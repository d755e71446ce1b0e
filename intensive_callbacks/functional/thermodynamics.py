"""Free energy, the order of a phase, and what erasing a bit must cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from intensive_callbacks.functional.checks import (
    LARGEST,
    as_float64,
    as_fraction,
    correct_for_chance,
    require_baseline,
    require_broadcast,
    require_confidence,
    require_positive,
)
from intensive_callbacks.functional.signatures import checked

__all__ = [
    "CriticalExponent",
    "correlation_length",
    "critical_beta",
    "critical_exponent",
    "free_energy",
    "landauer_limit",
    "landauer_ratio",
    "mean_field_magnetization",
    "order_parameter",
]

BOLTZMANN_CONSTANT = 1.380649e-23
"""J/K, exact by definition of the kelvin."""


@checked
def free_energy(energies: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Free energy of a set of states.

    .. math:: F = -\tau \ln \sum_i \exp(-E_i / \tau)

    With the negative logits of a router or classifier as energies it is minus their log-partition, whose square is
    ST-MoE's router z-loss. It is extensive: that of independent parts is the sum of theirs; F per part is what is
    intensive. Adding a constant to all logits changes it, and no probability: it says how large logits are, not how
    sure they are.

    Args:
        energies: ``[..., K]``; infinite for a state that cannot be.
        temperature: tau, in the unit of the energies.

    Returns:
        ``[...]``, in the unit of the energies.

    Raises:
        ValueError: if ``temperature`` is not above 0.

    Source:
        "Intensive Intelligence: Mathematical Foundations", which calls F intensive; Zoph et al. 2022, arXiv:2202.08906.

    Example:
        >>> free_energy(torch.tensor([-0.5, 0.5]))  # one spin in a field of 1/2: -ln(2 cosh(1/2))
        tensor(-0.8133, dtype=torch.float64)
    """
    require_positive("temperature", temperature)
    return -temperature * torch.logsumexp(-as_float64(energies) / temperature, dim=-1)


@checked
def order_parameter(accuracy: float | Tensor, random_baseline: float, *, chance_corrected: bool = False) -> Tensor:
    """Order parameter: accuracy above chance.

    Args:
        accuracy: fraction in [0, 1], of any shape.
        random_baseline: r, the accuracy of chance, in (0, 1).
        chance_corrected: (a - r) / (1 - r), which is 1 for a perfect model of any task, instead of a - r.

    Returns:
        A plain number, of the shape of ``accuracy``; in [-r, 1 - r], or at most 1.

    Raises:
        ValueError: if ``accuracy`` is a number outside [0, 1] or ``random_baseline`` is outside (0, 1).

    Source:
        "Intensive Intelligence: Mathematical Foundations", critical phenomena.

    Example:
        >>> order_parameter(0.85, random_baseline=0.25)
        tensor(0.6000, dtype=torch.float64)
    """
    fraction, baseline = as_fraction("accuracy", accuracy), require_baseline(random_baseline)
    return correct_for_chance(fraction, baseline) if chance_corrected else fraction - baseline


@checked
def landauer_limit(bits: float, temperature: float = 300.0) -> float:
    """The least energy that erasing bits must turn into heat, k T ln 2 each, in J.

    It bounds erasure alone: a computation that erases nothing may go below it (Bennett 1973).

    Args:
        bits: how many are erased.
        temperature: of the surroundings, in K.

    Returns:
        Joules.

    Raises:
        ValueError: if an argument is not above 0.

    Source:
        Landauer 1961; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> landauer_limit(bits=32e9)  # every bit of 1e9 parameters, once
        9.187132432251916e-11
    """
    require_positive("bits", bits)
    return BOLTZMANN_CONSTANT * require_positive("temperature", temperature) * bits * math.log(2)


@checked
def landauer_ratio(joules: float | Tensor, bits_erased: float | Tensor, temperature: float = 300.0) -> Tensor:
    """Landauer ratio: measured energy over the least that the erased bits must cost.

    Order of magnitude only: what a chip erases is not what a program overwrites. Today's training stands 10^14 above
    the limit of its weight updates (the source says 10^9).

    Args:
        joules: the energy measured.
        bits_erased: how many bits were overwritten.
        temperature: of the surroundings, in K.

    Returns:
        A plain number; NaN where no bit was erased.

    Raises:
        ValueError: if ``temperature`` is not above 0.

    Source:
        Landauer 1961; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> landauer_ratio(3.846e4, bits_erased=32e9).log10()  # one step of 2e6 tokens at 1e9 parameters
        tensor(14.6218, dtype=torch.float64)
    """
    energy, bits = as_float64(joules), as_float64(bits_erased)
    require_broadcast(joules=energy, bits_erased=bits)
    return energy / landauer_limit(1, temperature) / torch.where(bits > 0, bits, torch.nan)


@checked
def mean_field_magnetization(coupling: float | Tensor, beta: float) -> Tensor:
    """The greatest solution of the mean-field equation m = tanh(beta W m).

    0 up to ``critical_beta``, growing continuously above it, at first as sqrt(3 (beta W - 1)) for one spin. An account
    of a ferromagnet, and no model of training: that networks learn above a critical coupling is an analogy.

    Args:
        coupling: W, a number or ``[N, N]``, not negative.
        beta: inverse temperature.

    Returns:
        In [0, 1), a scalar or ``[N]``, float64.

    Raises:
        ValueError: if ``coupling`` is neither a number nor square or has a negative entry, or ``beta`` is not above 0.

    Source:
        "Intensive Intelligence: Mathematical Foundations", mean field theory.

    Example:
        >>> mean_field_magnetization(1.0, beta=1.5)
        tensor(0.8586, dtype=torch.float64)
    """
    given = as_float64(coupling)
    field = require_positive("beta", beta) * _require_couplings(given)
    if beta <= critical_beta(coupling):
        return torch.zeros(given.shape[:1], dtype=field.dtype, device=field.device)
    magnetization = torch.ones(len(field), dtype=field.dtype, device=field.device)
    # Newton's method descends from above to the greatest root, as tanh is concave there.
    for _ in range(100):
        target = torch.tanh(field @ magnetization)
        jacobian = torch.eye(len(field)).to(field) - (1 - target**2).unsqueeze(-1) * field
        step = torch.linalg.solve(jacobian, target - magnetization)
        magnetization = magnetization + step
        if step.abs().max() < 1e-14:
            break
    return magnetization.reshape(given.shape[:1])


@checked
def critical_beta(coupling: float | Tensor) -> float:
    """The inverse temperature at which a magnetization appears: one over the spectral radius of W.

    Args:
        coupling: W, a number or ``[N, N]``, not negative.

    Returns:
        A number above 0; infinite without coupling.

    Raises:
        ValueError: as :func:`mean_field_magnetization`.

    Example:
        >>> critical_beta(2.0)
        0.5
    """
    radius = torch.linalg.eigvals(_require_couplings(as_float64(coupling))).abs().max().item()
    return 1 / radius if radius > 0 else math.inf


def _require_couplings(coupling: Tensor) -> Tensor:
    matrix = coupling.reshape(1, 1) if coupling.dim() == 0 else coupling
    if (
        matrix.dim() != 2
        or matrix.shape[0] != matrix.shape[1]
        or not matrix.numel()
        or not bool(((matrix >= 0) & matrix.isfinite()).all())
    ):
        raise ValueError(
            "coupling must be a number or a square matrix without negative or infinite entries, "
            f"got {tuple(coupling.shape)}"
        )
    return matrix


class CriticalExponent(NamedTuple):
    """A power law near a critical point, as :func:`critical_exponent` fits it.

    Attributes:
        exponent: beta.
        low: the lower end of its interval.
        high: the upper end.
        critical_point: b_c, fitted or as given.
    """

    exponent: float
    low: float
    high: float
    critical_point: float


@checked
def critical_exponent(
    control: Tensor,
    response: Tensor,
    critical_point: float | None = None,
    *,
    confidence: float = 0.95,
) -> CriticalExponent:
    r"""The exponent of a power law near a critical point, from a sweep on one side of it.

    .. math:: \phi \sim |b - b_c|^{\beta}

    Least squares of ln phi, weights equal, so for errors that are a share of the value. A negative exponent is that of
    a correlation length. The interval takes the power law as given: over less than two decades nearly any curve is one,
    and such a sweep raises. That learning sets in at a critical batch size is the source's claim; SGD learns at
    batch size 1. Needs scipy.

    Args:
        control: b, ``[n]``, at least 5 values, all on one side of the critical point (above it, if it is to be fitted).
        response: phi, ``[n]``, above 0.
        critical_point: b_c; fitted if not given.
        confidence: of the interval.

    Returns:
        The exponent, the interval of Student's t, and the critical point.

    Raises:
        ValueError: for fewer than 5 values, a response that is not above 0, values on both sides of the critical point,
            or a span of ``abs(b - b_c)`` below two decades.

    Source:
        "Intensive Intelligence: Mathematical Foundations", critical exponents; Clauset et al. 2009 on two decades.

    Example:
        >>> control = 1.0 + torch.logspace(-2, 1, 12)
        >>> fit = critical_exponent(control, (control - 1.0) ** 0.5, critical_point=1.0)
        >>> round(fit.exponent, 4)
        0.5
    """
    from scipy.optimize import least_squares
    from scipy.stats import t as student

    require_confidence(confidence)
    b, phi = (as_float64(values.detach()).cpu().numpy() for values in (control, response))
    usable = b.ndim == 1 and len(b) >= 5 and b.shape == phi.shape and np.isfinite(b).all() and np.isfinite(phi).all()
    if not usable or not (phi > 0).all():
        raise ValueError(
            "control must be [n], at least 5 finite values, and response [n], finite and above 0 each, "
            f"got {b.shape} and {phi.shape}, least response {phi.min(initial=np.inf)}"
        )
    spread = float(b.max() - b.min())

    def distance(parameters: np.ndarray) -> np.ndarray:
        if critical_point is not None:
            return np.abs(b - critical_point)
        return np.asarray(b - b.min() + np.exp(parameters[2]))

    def residual(parameters: np.ndarray) -> np.ndarray:
        fitted = parameters[0] + parameters[1] * np.log(distance(parameters))
        return np.asarray(fitted - np.log(phi))

    if critical_point is not None:
        _require_one_side(b, critical_point)
        fits = [least_squares(residual, [0.0, 1.0])]
    else:
        # The gap below the least control may have several best values: start from each decade.
        gaps = np.log(spread * np.logspace(-5, 1, 7))
        fits = [
            least_squares(residual, [0.0, 1.0, gap], bounds=([-np.inf, -np.inf, -40], np.inf), max_nfev=100)
            for gap in gaps
        ]
    best = min(fits, key=lambda fit: float(fit.cost))
    lengths = distance(best.x)
    if lengths.max() < 100 * lengths.min():
        raise ValueError(
            f"control less critical_point, abs(b - b_c), spans a factor of {lengths.max() / lengths.min():.3g}; "
            "an exponent needs two decades or more"
        )
    freedom = len(b) - len(best.x)
    inverse = np.linalg.pinv(best.jac.T @ best.jac)
    error = float(np.sqrt(2 * best.cost / freedom * inverse[1, 1]) * student.ppf((1 + confidence) / 2, freedom))
    exponent = float(best.x[1])
    point = float(b.min() - np.exp(best.x[2])) if critical_point is None else critical_point
    return CriticalExponent(exponent, exponent - error, exponent + error, point)


def _require_one_side(control: np.ndarray, critical_point: float) -> None:
    if not abs(critical_point) <= LARGEST or not ((control > critical_point).all() or (control < critical_point).all()):
        raise ValueError(f"all values of control must lie on one side of critical_point, got {critical_point}")


@checked
def correlation_length(correlations: Tensor, distances: Tensor | None = None) -> Tensor:
    r"""The distance over which a correlation falls to 1/e.

    .. math:: C(r) \sim e^{-r / \xi}

    Least squares of ln C up to the first value that is not positive. Only for a correlation that falls exponentially:
    at a critical point it falls as a power, and there is no such length.

    Args:
        correlations: C, ``[n]``, in order of distance.
        distances: r, ``[n]``; 1, 2, ... if not given.

    Returns:
        xi, a scalar in the unit of the distances; NaN where fewer than two values are positive or they do not fall.

    Source:
        "Intensive Intelligence: Mathematical Foundations", correlation length.

    Example:
        >>> correlation_length(0.5 ** torch.arange(1, 6))  # -1 / ln 0.5
        tensor(1.4427, dtype=torch.float64)
    """
    values = as_float64(correlations)
    if values.dim() != 1 or (distances is not None and distances.shape != values.shape):
        raise ValueError(f"correlations must be [n], with distances of the same shape, got {tuple(values.shape)}")
    lags = torch.arange(1, len(values) + 1, device=values.device) if distances is None else distances
    positive = (values > 0).cumprod(0).to(torch.bool)
    logs, lags = values[positive].log(), as_float64(lags)[positive]
    if len(logs) < 2:
        return as_float64(math.nan)
    centered = lags - lags.mean()
    slope = (centered @ logs) / (centered @ centered)
    return -1 / torch.where(slope < 0, slope, torch.nan)
