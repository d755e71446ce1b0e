"""What was seen between two logging steps: by one process, and, once reduced, by all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.distributed import is_distributed, reduce_states

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intensive_callbacks.monitor.states import States
    from intensive_callbacks.routing.sums import RoutingSums


@dataclass(frozen=True)
class Quality:
    """A fresh accuracy, as sums over the examples that it stands for.

    Attributes:
        correct: accuracy times weight.
        weight: the number of examples, or 1 where it is not known; 0 without a fresh accuracy.
        uncounted: 1 where the number of examples is not known.
        unusable: 1 where an accuracy came that is no fraction in [0, 1].
    """

    correct: float = 0.0
    weight: float = 0.0
    uncounted: float = 0.0
    unusable: float = 0.0

    @classmethod
    def of(cls, accuracy: Any, num_examples: int | None = None, weight: float | None = None) -> Quality:
        """The sums of one accuracy; none where it is ``None``.

        Args:
            accuracy: a fraction in [0, 1].
            num_examples: how many answers it is a share of, where that is known.
            weight: its weight beside those of other processes, ``num_examples`` by default.

        Raises:
            ValueError: if it is no finite number in [0, 1], or the number of examples is negative.
        """
        if accuracy is None:
            return cls()
        try:
            value = float(accuracy)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"accuracy must be a number, a fraction in [0, 1], got {accuracy!r:.80}") from error
        if not 0 <= value <= 1:
            hint = "; divide percent by 100" if 1 < value <= 100 else ""
            raise ValueError(f"accuracy must be a fraction in [0, 1], got {value:g}{hint}")
        if num_examples is not None and num_examples < 0:
            raise ValueError(f"num_examples must not be negative, got {num_examples}")
        weight = num_examples if num_examples is not None else 1 if weight is None else weight
        return cls(value * weight, weight, num_examples is None and weight > 0)

    @property
    def is_fresh(self) -> bool:
        """Whether there is an accuracy that can be used."""
        return self.weight > 0 and not self.unusable

    @property
    def accuracy(self) -> float:
        """The mean over all examples, NaN where there is none that can be used."""
        return self.correct / self.weight if self.is_fresh else math.nan

    @property
    def num_examples(self) -> int | None:
        """How many examples it stands for, ``None`` where that is not known."""
        return int(self.weight) if self.is_fresh and not self.uncounted else None


@dataclass(frozen=True)
class Counts:
    """What a process has counted of its training since the last logging step.

    Attributes:
        examples: training examples.
        tokens: training tokens, padding left out.
        has_tokens: 1 where the batches have tokens.
        flops: floating point operations of the forward passes that were counted.
        positions: the token positions, or examples, that these were for.
        processes: 1, and so their number once reduced, where time was read; else 0.
        seconds: wall-clock time of training.
        joules: energy of training; NaN where nothing measures it.
        bits: bits that an optimizer step overwrites.
    """

    examples: float = 0
    tokens: float = 0
    has_tokens: float = 0
    flops: float = 0
    positions: float = 0
    processes: float = 0
    seconds: float = 0
    joules: float = 0
    bits: float = 0


@dataclass(frozen=True)
class Window:
    """One logging step's sums.

    Attributes:
        is_due: whether a window of training ends with it.
        is_first: whether no values were logged before.
        validates: whether this training has validations, which ``intensive/`` keys are then about.
        quality: the fresh accuracy, if there is one.
        counts: of training.
        training: the routing of the training window; ``None`` where it was not read.
        validation: the routing of the validation that ended since the last logging step; ``None`` where there was none.
        sums: states of metrics that are fed as the model runs, by the metric's name and the state's, to be added.
        samples: the same, to be concatenated.
        failed: those of these metrics that failed, on any process.
    """

    is_due: bool = True
    is_first: bool = False
    validates: bool = False
    quality: Quality = field(default_factory=Quality)
    counts: Counts = field(default_factory=Counts)
    training: RoutingSums | None = None
    validation: RoutingSums | None = None
    sums: Mapping[str, States] = field(default_factory=dict)
    samples: Mapping[str, States] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()

    @property
    def has_validation(self) -> bool:
        """Whether a validation has ended since the last logging step."""
        return self.validation is not None

    def reduced(self) -> Window:
        """The same over all processes: one fused reduction."""
        if not is_distributed():
            return self
        numbers = [*_numbers(self.quality), *_numbers(self.counts)]
        sums = {"window/numbers": torch.tensor(numbers, dtype=torch.float64)}
        for name, routing in (("training", self.training), ("validation", self.validation)):
            if routing:
                sums[f"{name}/routing"] = routing.packed()
        sums |= _flat(self.sums)
        summed, samples, failed = reduce_states(sums, _flat(self.samples), self.failed)
        numbers = summed["window/numbers"].tolist()
        split = len(fields(Quality))
        return replace(
            self,
            quality=Quality(*numbers[:split]),
            counts=Counts(*numbers[split:]),
            training=_routing(self.training, summed.get("training/routing")),
            validation=_routing(self.validation, summed.get("validation/routing")),
            sums=_nested(summed, self.sums),
            samples=_nested(samples, self.samples),
            failed=frozenset(failed),
        )


def _numbers(sums: Quality | Counts) -> list[float]:
    return [float(getattr(sums, each.name)) for each in fields(sums)]


def _flat(states: Mapping[str, States]) -> dict[str, Tensor]:
    return {f"{metric}/{name}": value for metric, named in states.items() for name, value in named.items()}


def _routing(own: RoutingSums | None, packed: Tensor | None) -> RoutingSums | None:
    """The sums of all processes; ``None`` where they do not all have the same layers."""
    return None if own is None or packed is None else own.with_packed(packed)


def _nested(flat: Mapping[str, Tensor], like: Mapping[str, States]) -> dict[str, States]:
    """The states by metric; without a metric that failed, which has none left."""
    return {
        metric: {name: flat[f"{metric}/{name}"] for name in named}
        for metric, named in like.items()
        if all(f"{metric}/{name}" in flat for name in named)
    }
