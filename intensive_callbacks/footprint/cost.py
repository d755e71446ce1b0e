"""What a batch of training costs, counted once for each shape of batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.footprint.compiled import TrainingFlopCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from contextlib import AbstractContextManager

    from torch import nn

MAX_SHAPES = 16
MAX_ATTEMPTS = 2


class TrainingCost:
    """FLOPs of the forward passes of a training and the positions they were for.

    The first batch of each shape is counted as it runs, each further one by its shape. What cannot be counted is in
    neither sum, so their ratio is the mean over the batches that were. A step that broke off before its backward pass
    is no count; its shape is tried once more.

    Args:
        model: the model that trains.
        unseen: as :class:`TrainingFlopCounter` takes it.
        returned: the same.

    Attributes:
        sums: ``flops`` and ``positions``.
        error: why something could not be counted.
    """

    def __init__(
        self,
        model: nn.Module,
        unseen: Callable[[], AbstractContextManager[object]],
        returned: Callable[[nn.Module, Any], None],
    ) -> None:
        self._model, self._unseen, self._returned = model, unseen, returned
        self._flops: dict[Hashable, int] = {}
        self._attempts: Counter[Hashable] = Counter()
        self._counter: TrainingFlopCounter | None = None
        self._batch: tuple[Hashable, int] = ((), 0)
        self._refused = False
        self.error: Exception | None = None
        self.forget()

    def forget(self) -> None:
        """Begin the sums anew; what a shape costs is known still."""
        self.sums = {"flops": 0, "positions": 0}

    def begin(self, shape: Hashable, positions: int) -> None:
        """The forward pass of a batch comes."""
        self.cancel()
        if shape in self._flops:
            self._add(shape, positions)
        elif positions and self._is_worth_a_try(shape):
            try:
                counter = TrainingFlopCounter(self._model, self._unseen, self._returned)
            except ValueError as error:
                self._refused, self.error = True, error
                return
            # What runs aside may communicate, and the first batch is the only one that all processes have.
            if self._attempts and counter.parts and _num_processes() > 1:
                return
            self._attempts[shape] += 1
            self._batch = shape, positions
            self._counter = counter.start()

    def _is_worth_a_try(self, shape: Hashable) -> bool:
        known = shape in self._attempts
        return not self._refused and (
            self._attempts[shape] < MAX_ATTEMPTS if known else len(self._attempts) < MAX_SHAPES
        )

    def end(self) -> None:
        """The forward pass is over; what follows is not counted."""
        if self._counter is None:
            return
        counter, (shape, positions) = self._counter, self._batch
        self.cancel()
        try:
            count = counter.result()
        except ValueError as error:  # this runs in the middle of a training step; it is told when values are logged
            self.error = error
            return
        self._flops[shape] = count.total
        self._add(shape, positions)
        if count.uncounted:
            missed = ", ".join(count.uncounted)
            self.error = ValueError(f"{missed} multiply, have no formula and are left out of P2F")

    def cancel(self) -> None:
        """Cease to count; what broke off has no cost."""
        if self._counter is not None:
            self._counter.stop()
            self._counter = None

    def _add(self, shape: Hashable, positions: int) -> None:
        self.sums["flops"] += self._flops[shape]
        self.sums["positions"] += positions


def _num_processes() -> int:
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_distributed else 1
