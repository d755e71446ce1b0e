"""FLOPs of training batches, counted once for each shape of batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.footprint.compiled import TrainingFlopCounter
from intensive_callbacks.footprint.counting_mode import COUNTING
from intensive_callbacks.footprint.preserve import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from contextlib import AbstractContextManager

    from torch import nn

MAX_SHAPES = 16
MAX_ATTEMPTS = 2
NO_FORMULA = (
    "it may multiply, has no formula and is left out of P2F; give it one with "
    "torch.utils.flop_counter.register_flop_formula"
)


class TrainingCost:
    """Accumulates the FLOPs of training forward passes and the number of their positions.

    The first batch of each shape is counted as it runs, each further one by its shape. What cannot be counted is in
    neither sum, so their ratio is the mean over the batches that were. A forward pass that was interrupted is not
    counted; its shape is tried once more.

    Args:
        model: the model that trains.
        paused: as :class:`TrainingFlopCounter` takes it.
        returned: the same.
        boundary: where it is reported that something cannot be counted, and a failure, which ends the counting; by
            default one of its own, which warns.

    Attributes:
        sums: ``flops`` and ``positions``.
    """

    def __init__(
        self,
        model: nn.Module,
        paused: Callable[[], AbstractContextManager[object]],
        returned: Callable[[nn.Module, Any], None],
        boundary: Boundary | None = None,
    ) -> None:
        self._model, self._paused, self._returned = model, paused, returned
        self._boundary = boundary or Boundary()
        self._flops: dict[Hashable, int] = {}
        self._attempts: Counter[Hashable] = Counter()
        self._counter: TrainingFlopCounter | None = None
        self._batch: tuple[Hashable, int] = ((), 0)
        self.sums = {"flops": 0, "positions": 0}

    @property
    def is_counting(self) -> bool:
        """Whether a forward pass is being counted now."""
        return self._counter is not None

    def begin(self, shape: Hashable, positions: int) -> None:
        """Record a batch before its forward pass."""
        self._guarded(self._begin, shape, positions)

    def end(self) -> None:
        """Stop counting at the end of the forward pass."""
        self._guarded(self._end)

    def cancel(self) -> None:
        """Stop counting; an interrupted forward pass has no cost."""
        self._guarded(self._stop)

    def restart(self) -> None:
        """Reset the sums; the cost of each shape stays known."""
        self.sums = {"flops": 0, "positions": 0}

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        if COUNTING in self._boundary.failed:
            function, args = self._remove, ()
        self._boundary.call(COUNTING, function, *args, off=self._remove)

    def _begin(self, shape: Hashable, positions: int) -> None:
        self._stop()
        if shape in self._flops:
            self._add(shape, positions)
        elif positions and self._is_worth_a_try(shape):
            self._start(shape, positions)

    def _is_worth_a_try(self, shape: Hashable) -> bool:
        known = shape in self._attempts
        return self._attempts[shape] < MAX_ATTEMPTS if known else len(self._attempts) < MAX_SHAPES

    def _start(self, shape: Hashable, positions: int) -> None:
        counter = TrainingFlopCounter(self._model, self._paused, self._returned, self._boundary)
        # A compiled part that runs once more may communicate, and all processes have only the first batch in common.
        # A lazy one would lose what its first forward pass creates.
        if counter.parts and (is_lazy(self._model) or (self._attempts and _num_processes() > 1)):
            return
        self._attempts[shape] += 1
        self._batch = shape, positions
        self._counter = counter
        counter.start()

    def _end(self) -> None:
        if self._counter is None:
            return
        counter, (shape, positions) = self._counter, self._batch
        self._stop()
        if COUNTING in self._boundary.failed:
            return
        try:
            count = counter.result()
        except ValueError as error:
            self._boundary.fail(f"{COUNTING} of a batch", error)
            return
        if count.failed:  # reported already; a cost without these operators would be wrong
            return
        self._flops[shape] = count.total
        self._add(shape, positions)
        for name in count.uncounted:
            self._boundary.fail(f"{COUNTING} of {name}", ValueError(NO_FORMULA))

    def _stop(self) -> None:
        if self._counter is not None:
            self._counter.stop()
            self._counter = None

    def _remove(self) -> None:
        """Remove hooks and the dispatch mode after a failure, at once or as soon as possible."""
        if self._counter is not None and self._counter.abandon():
            self._counter = None

    def _add(self, shape: Hashable, positions: int) -> None:
        self.sums["flops"] += self._flops[shape]
        self.sums["positions"] += positions


def _num_processes() -> int:
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_distributed else 1
