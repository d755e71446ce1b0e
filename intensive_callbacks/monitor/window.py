"""What was seen between two logging steps: by one process, and, once reduced, by all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.monitor.sharing import ALONE, Share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intensive_callbacks.distributed import Processes
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


UNKNOWN = Counts(examples=math.nan, tokens=math.nan, joules=math.nan)


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
        failed: those of these metrics that failed, on any process, and ``"counts"``, ``"training"`` or ``"validation"``
            where that could not be read.
        baseline: the accuracy of the untrained model, where it was measured.
        layout: sums of the observed layers, to read what only other processes have.
        share: which of the processes that work on the same batch this one is.
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
    baseline: Quality = field(default_factory=Quality)
    layout: RoutingSums | None = None
    share: Share = ALONE

    @property
    def has_validation(self) -> bool:
        """Whether a validation has ended since the last logging step."""
        return self.validation is not None

    def reduced(self, processes: Processes, **where: int) -> Window:
        """The same over all processes: one fused reduction.

        Args:
            processes: the processes that train together.
            where: integers that must be the same on all of them, such as the step.

        Raises:
            ProcessesDisagree: if they are not.
        """
        if not processes.are_several:
            return self
        sums = {"quality/numbers": self._of_the_batch(), "counts/numbers": self._of_this_process()}
        for name, routing in (("training", self.training), ("validation", self.validation)):
            if routing:
                packed = routing.packed()
                sums[f"{name}/routing"] = torch.zeros_like(packed) if self.share.repeats_tokens else packed
        sums |= _flat(self.sums)
        samples = _flat(self.samples)
        optional = {"validation", *filter(_is_tap, [*self.sums, *self.samples])}
        summed, collected, failed = processes.reduce(sums, samples, self.failed, optional, where)
        return self._with(summed, collected, failed)

    def _of_the_batch(self) -> Tensor:
        """What processes that share a batch all have, each in a row of its own."""
        own = [*_numbers(self.quality), *_numbers(self.baseline), *(getattr(self.counts, name) for name in ONCE)]
        numbers = torch.zeros(self.share.size, len(own), dtype=torch.float64)
        numbers[self.share.index] = torch.tensor(own, dtype=torch.float64)
        return numbers

    def _of_this_process(self) -> Tensor:
        """What every process has of its own, whether it validates, and that it is one."""
        return torch.tensor([*_numbers(self.counts), self.validates, 1], dtype=torch.float64)

    def _with(self, summed: Mapping[str, Tensor], samples: Mapping[str, Tensor], failed: set[str]) -> Window:
        """This window with what all processes have."""
        rows, split = summed["quality/numbers"], len(fields(Quality))
        counts, validates, size = UNKNOWN, float(self.validates), 1.0
        if "counts" not in failed:
            *numbers, validates, size = summed["counts/numbers"].tolist()
            once = dict(zip(ONCE, rows[:, 2 * split :].amax(0).tolist(), strict=True))
            counts = replace(Counts(*numbers), **once)
        # Where some validate and others do not yet, what the taps saw is of two kinds.
        mixed = 0 < validates < size
        states = [_nested(each, failed, mixed=mixed) for each in (summed, samples)]
        return replace(
            self,
            validates=validates > 0,
            quality=_one_of(rows[:, :split]),
            baseline=_one_of(rows[:, split : 2 * split]),
            counts=counts,
            training=_routing(self.training or self.layout, summed.get("training/routing")),
            validation=_routing(self.validation or self.layout, summed.get("validation/routing")),
            sums={name: states[0].get(name, {}) for name in states[0].keys() | states[1].keys()},
            samples={name: states[1].get(name, {}) for name in states[0].keys() | states[1].keys()},
            failed=frozenset(failed),
        )


# What processes that share a batch all count.
ONCE = ("examples", "tokens", "has_tokens")
PARTS = ("quality", "counts", "training", "validation")


def _numbers(sums: Quality | Counts) -> list[float]:
    return [float(getattr(sums, each.name)) for each in fields(sums)]


def _one_of(rows: Tensor) -> Quality:
    """The accuracy of the first of the processes that share a batch that has one; unusable where any is."""
    first = Quality(*rows[int((rows[:, 1] > 0).int().argmax())].tolist())
    return replace(first, unusable=float(rows[:, 3].sum()))


def _is_tap(name: str) -> bool:
    return name.startswith("tap")


def _flat(states: Mapping[str, States]) -> dict[str, Tensor]:
    return {f"{metric}/{name}": value for metric, named in states.items() for name, value in named.items()}


def _routing(like: RoutingSums | None, packed: Tensor | None) -> RoutingSums | None:
    """The sums of all processes; ``None`` where they do not all have the same layers."""
    return None if like is None or packed is None else like.with_packed(packed)


def _nested(flat: Mapping[str, Tensor], failed: set[str], *, mixed: bool) -> dict[str, States]:
    """The states by metric; without a metric that failed, which has none left."""
    nested: dict[str, States] = {}
    for name, value in flat.items():
        metric, _, state = name.partition("/")
        if metric not in PARTS and metric not in failed and not (mixed and _is_tap(metric)):
            nested.setdefault(metric, {})[state] = value
    return nested
