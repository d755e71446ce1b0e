"""Free energy, order and heat, as metrics: ``functional/thermodynamics.py`` has the mathematics."""

from typing import Any

import torch
from torch import Tensor

from intensive_callbacks.functional import thermodynamics
from intensive_callbacks.functional.checks import as_float64, as_scalar, require_baseline, require_positive
from intensive_callbacks.metrics.base import AccuracyMetric, IntensiveMetric

__all__ = ["FreeEnergy", "LandauerRatio", "OrderParameter"]


class FreeEnergy(IntensiveMetric):
    r"""Free energy, the mean over samples.

    .. math:: F = -\tau \ln \sum_i \exp(-E_i / \tau)

    ``update(energies, mask=None)`` takes ``[..., K]``, the energies of K states for each sample, and booleans of the
    leading shape that are false on padding; ``compute`` returns a scalar in the unit of the energies, NaN before the
    first sample. Give a router's negative logits: then it is minus the mean log-partition, whose square is the router
    z-loss. It is extensive over independent parts, and moves with a constant added to all logits.

    Args:
        temperature: tau.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``temperature`` is not above 0; on update, if the mask does not fit.

    Source:
        "Intensive Intelligence: Mathematical Foundations"; Zoph et al. 2022, arXiv:2202.08906.

    Example:
        >>> from intensive_callbacks import FreeEnergy
        >>> energy = FreeEnergy()
        >>> logits = torch.zeros(5, 8)
        >>> energy.update(-logits)
        >>> energy.compute()  # -ln 8
        tensor(-2.0794)
    """

    higher_is_better = None
    log_partition: Tensor
    num_logits: Tensor

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = require_positive("temperature", temperature)
        self.add_sum("log_partition")
        self.add_sum("num_logits", (), torch.int64)

    def update(self, energies: Tensor, mask: Tensor | None = None) -> None:
        """Add the free energies of one batch."""
        values = thermodynamics.free_energy(energies.detach(), self.temperature)
        kept = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
        if kept.shape != values.shape:
            raise ValueError(f"mask must be {tuple(values.shape)}, got {tuple(kept.shape)}")
        self.log_partition -= torch.where(kept, values, 0).sum() / self.temperature
        self.num_logits += kept.sum()

    def compute(self) -> Tensor:
        """The mean over all samples."""
        return -self.temperature * self.log_partition / self.num_logits


class OrderParameter(AccuracyMetric):
    """Order parameter: accuracy above chance.

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and the examples it stands for; ``compute``
    returns a scalar, NaN before the first update; ``standard_error`` its standard error where examples were counted.

    Args:
        random_baseline: r, the accuracy of chance, in (0, 1).
        chance_corrected: (a - r) / (1 - r), which is 1 for a perfect model of any task, instead of a - r.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``random_baseline`` is outside (0, 1); on update, if an accuracy is a number outside [0, 1].

    Source:
        "Intensive Intelligence: Mathematical Foundations", critical phenomena.

    Example:
        >>> from intensive_callbacks import OrderParameter
        >>> order = OrderParameter(random_baseline=0.25)
        >>> order.update(0.85)
        >>> order.compute()
        tensor(0.6000)
    """

    plot_upper_bound = 1.0

    def __init__(self, random_baseline: float, *, chance_corrected: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.random_baseline = require_baseline(random_baseline)
        self.chance_corrected = chance_corrected

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        return thermodynamics.order_parameter(accuracy, self.random_baseline, chance_corrected=self.chance_corrected)


class LandauerRatio(IntensiveMetric):
    """Landauer ratio: measured energy over the least that the erased bits must cost.

    ``update(joules, bits_erased)`` takes the energy of some work and the bits it overwrote (8 bytes·steps of what an
    optimizer rewrites, say); ``compute`` returns a plain number, NaN before the first bit. An order of magnitude: what
    a chip erases is not what a program overwrites.

    Args:
        temperature: of the surroundings, in K.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``temperature`` is not above 0.

    Source:
        Landauer 1961; "Intensive Intelligence: Mathematical Foundations".

    Example:
        >>> from intensive_callbacks import LandauerRatio
        >>> ratio = LandauerRatio()
        >>> ratio.update(joules=9.187e-11, bits_erased=32e9)
        >>> ratio.compute()
        tensor(1.0000)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    undefined = "no bit has been erased"
    joules: Tensor
    bits_erased: Tensor

    def __init__(self, temperature: float = 300.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = require_positive("temperature", temperature)
        self.add_sum("joules")
        self.add_sum("bits_erased")

    def update(self, joules: float | Tensor, bits_erased: float | Tensor) -> None:
        """Add the energy of some work and the bits it overwrote."""
        energy, bits = as_float64(joules).detach(), as_float64(bits_erased).detach()
        self.joules += as_scalar("joules", energy).to(self.joules.device)
        self.bits_erased += as_scalar("bits_erased", bits).to(self.bits_erased.device)

    def compute(self) -> Tensor:
        """All energy over the limit of all bits."""
        return thermodynamics.landauer_ratio(self.joules, self.bits_erased, self.temperature)
