"""Examples and tokens of a batch, counted by the user's functions or from its tensors."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from intensive_callbacks.monitor import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from intensive_callbacks.boundary import Boundary


class BatchCount(NamedTuple):
    """What a batch has.

    Attributes:
        examples: its examples.
        tokens: its tokens without padding; ``None`` where it has none.
        positions: what the cost of its forward pass is divided by: its token positions, or else its examples.
    """

    examples: int
    tokens: int | Tensor | None
    positions: int


class BatchCounter:
    """Counts examples and tokens, and asks once for a function where the first batch does not tell.

    Args:
        num_examples: ``num_examples(batch)`` of the user.
        num_tokens: ``num_tokens(batch)`` of the user.
        boundary: what a function that raises is reported to; it is not called again.

    Attributes:
        may_have_tokens: whether the first batch had integers that may or may not be tokens.
    """

    def __init__(
        self,
        num_examples: Callable[[Any], int] | None,
        num_tokens: Callable[[Any], int | Tensor | None] | None,
        boundary: Boundary,
    ) -> None:
        self.may_have_tokens = False
        self._num_examples, self._num_tokens, self._boundary = num_examples, num_tokens, boundary
        self._has_asked = False
        self._failed: set[str] = set()

    def count(self, batch: Any, parts: Sequence[Any] = (), mask: Tensor | None = None) -> BatchCount:
        """Count a batch.

        Args:
            batch: what the loop gave.
            parts: the batches in it where several loaders gave one each.
            mask: the user's mask of its real tokens.
        """
        parts = parts or (batch,)
        self._ask(parts)
        examples = self._call("num_examples", self._num_examples, batch) if self._num_examples else None
        if examples is None:
            examples = sum(map(batches.num_examples, parts))
        tokens, positions = self._tokens(batch, parts, mask)
        return BatchCount(int(examples), tokens, positions or int(examples))

    def _tokens(self, batch: Any, parts: Sequence[Any], mask: Tensor | None) -> tuple[int | Tensor | None, int]:
        positions = sum(batches.num_positions(part) or 0 for part in parts)
        if self._num_tokens is not None:
            tokens = self._call("num_tokens", self._num_tokens, batch)
            # What a user counts as tokens is what FLOPs are then counted for; a tensor is not waited for.
            has_none = tokens is None and "num_tokens" not in self._failed
            return tokens, 0 if has_none else positions or (tokens if isinstance(tokens, int) else 0)
        counted = [tokens for part in parts if (tokens := batches.num_tokens(part, mask)) is not None]
        return (sum(counted) if counted else None), positions

    def _call(self, name: str, function: Callable[[Any], Any], batch: Any) -> Any:
        if name in self._failed:
            return None
        off = functools.partial(self._failed.add, name)
        return self._boundary.call(name, _number, name, function, batch, off=off)

    def _ask(self, parts: Sequence[Any]) -> None:
        if self._has_asked:
            return
        self._has_asked = True
        why = next(filter(None, map(batches.examples_question, parts)), None)
        if why and self._num_examples is None:
            self._boundary.warn("num_examples", f"{why}; pass num_examples=, a function of the batch")
        why = next(filter(None, map(batches.tokens_question, parts)), None)
        if why and self._num_tokens is None:
            self.may_have_tokens = True
            self._boundary.warn(
                "num_tokens",
                f"{why}; costs are counted per example. If they are tokens, pass num_tokens=lambda batch: ..., the "
                "tokens of a batch; otherwise num_tokens=lambda batch: None",
            )


def _number(name: str, function: Callable[[Any], Any], batch: Any) -> Any:
    """What a user's function gives, which must be one number, or ``None``."""
    number = function(batch)
    if not isinstance(number, Tensor):
        return number
    if number.numel() != 1:
        raise ValueError(f"{name} must give one number, got a tensor of shape {list(number.shape)}")
    return number.reshape(())
