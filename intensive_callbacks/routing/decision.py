"""What is seen of one router's decision while its layer runs, put together from whatever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.routing.reading import ROUTER, Reading, decision_of, union
from intensive_callbacks.routing.sample import RouterSample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intensive_callbacks.routing.discovery import MoELayer


class Decision:
    """The decision of one layer in the running forward.

    Usually the dispatch is taken from the most direct of its sources: ``experts`` (what the experts were called with),
    else ``router`` (what the router returned), else the selections that the layer's forward was seen to make. A
    :class:`Reading` that was proven takes other tensors of the forward.

    Args:
        layer: the layer that decides.
    """

    def __init__(self, layer: MoELayer) -> None:
        self.name = layer.name
        self.num_experts = layer.num_experts
        self.num_classes = layer.num_classes
        self.top_k = layer.num_experts_per_token
        self.experts_choose = False
        self.reading = Reading()
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.source: str | None = None
        self.expert_ids: Tensor | None = None
        self.weights: Tensor | None = None
        self.dispatch: Tensor | None = None
        self.probabilities: Tensor | None = None
        self.logits: Tensor | None = None
        self.ranking: Tensor | None = None
        self.table: Tensor | None = None
        self.num_tokens = 0
        self._hidden: Tensor | None = None
        self._selections: list[Tensor] = []
        self._seen: dict[str, list[Tensor]] = {}
        self._width: int | None = None
        self._returned: Any = None

    @property
    def is_made(self) -> bool:
        """Whether a selection was seen."""
        if self.reading.places and not self.reading.narrows:
            return all(len(self._seen.get(name, ())) > number for name, number in self.reading.places)
        return self.is_selected

    def begin(self, inputs: tuple[Any, ...], reading: Reading) -> None:
        """A forward with these inputs begins: the first floating-point tensor has the tokens."""
        self.reading = reading
        for hidden in inputs:
            if isinstance(hidden, Tensor) and hidden.is_floating_point():
                self._hidden = hidden
                if hidden.dim() > 1:
                    self.num_tokens = hidden.numel() // max(hidden.shape[-1], 1)
                return

    @property
    def is_selected(self) -> bool:
        """Whether the usual sources show a selection."""
        return self.expert_ids is not None or self.dispatch is not None

    @property
    def is_plain(self) -> bool:
        """Whether the forward computes numbers that can be looked at."""
        hidden = self._hidden
        return hidden is not None and type(hidden) in (Tensor, torch.nn.Parameter) and not hidden.is_meta

    def adopt(self, reading: Reading) -> None:
        """Read this forward as it was proven."""
        self.reading = reading

    def covers(self, scores: Tensor) -> bool:
        """Whether scores are of all tokens, and not what an expert selects among its own features for its tokens."""
        ids = self.expert_ids
        return ids is None or scores.numel() // self.num_classes >= ids.numel() // max(ids.shape[-1], 1)

    def select(self, ids: Tensor) -> None:
        """The forward selected these experts; of several selections :meth:`_selected` says which count."""
        self.expert_ids, self.dispatch = ids, None
        self._selections.append(self.expert_ids)

    def rewrite(self, ids: Tensor) -> None:
        """The forward moved or masked the ids that it had selected."""
        self.expert_ids = ids
        alike = [i for i, each in enumerate(self._selections) if each.shape == ids.shape]
        if alike:
            self._selections[alike[-1]] = self.expert_ids

    def narrow(self, dispatch: Tensor) -> None:
        """The forward dispatches only these of its selections, ``[T, E]``."""
        self.dispatch = dispatch.detach()

    def rank(self, order: Tensor | None) -> None:
        """The forward sorted all experts, or has cut what it sorted."""
        self.ranking = order

    def look_up(self, ids: Tensor) -> None:
        """The forward read integers from a table, ``[T, k]``: the experts, if nothing scores any."""
        self.table = ids.detach()

    def score(self, *, logits: Tensor | None = None, probabilities: Tensor | None = None) -> None:
        """The forward formed these scores of all experts."""
        if logits is not None:
            self.logits = logits.detach().clone()
        if probabilities is not None:
            self.probabilities = probabilities.detach().clone()

    def note(self, name: str, output: Any) -> None:
        """Keep what a function returned, if it may be the decision."""
        found = decision_of(output, self.num_tokens, self.num_classes)
        if found is not None:
            self._seen.setdefault(name, []).append(found)

    def note_returned(self, output: Any) -> None:
        """Keep each tensor that the router returned, if it may be the decision."""
        for tensor in _tensors(output):
            self.note(ROUTER, tensor)

    def seen(self) -> list[tuple[str, int, Tensor]]:
        """What was kept: the function's name, which of its outputs, and the decision."""
        return [(name, number, found) for name, all_ in self._seen.items() for number, found in enumerate(all_)]

    def read_later(self, output: Any) -> None:
        """Keep what the router returned, in case the experts are not called."""
        self._returned = output

    def read_output(self, output: Any) -> None:
        """Take dispatch and scores from what the router returned, told apart by dtype and shape."""
        tensors = list(_tensors(output))
        whole = [t for t in tensors if not t.is_floating_point() and (t.dim() > 1 or t.shape[:1] == (self.num_tokens,))]
        real = [t for t in tensors if t.is_floating_point() and t.dim() > 1]
        if whole and self.source is None:
            ids = whole[0]
            fitting = [t for t in real if t.shape == ids.shape and (t.shape[-1] != self.num_classes or len(real) == 1)]
            self.take("router", ids, fitting[0] if fitting else None)
        scores = [t for t in real if t.shape[-1] == self.num_classes]
        if scores and self.logits is None and self.probabilities is None:
            self.logits = scores[0].detach()

    def take(self, source: str, ids: Any, weights: Any) -> None:
        """Take the dispatch from integers or booleans that ``source`` was called with or returned."""
        if not isinstance(ids, Tensor) or ids.is_floating_point():
            return
        width = ids.shape[-1]
        if ids.dim() > 2 and ids.shape[-2] == self.num_classes and ids.dtype == torch.bool:
            dispatch = ids.any(-1)  # [T, E, C], one column for each place of an expert's capacity
        elif ids.dtype == torch.bool or (width == self.num_classes and ids.dim() > 1 and self.top_k != width):
            dispatch = ids != 0
        else:
            self.source, self.dispatch = source, None
            self._selections.clear()
            self.expert_ids = ids[..., None] if ids.dim() == 1 else ids
            if isinstance(weights, Tensor) and weights.numel() == ids.numel():
                self.weights = weights
            return
        self._width = None if self.expert_ids is None else self.expert_ids.shape[-1]
        self.source, self.expert_ids, self.weights = source, None, None
        self.dispatch = dispatch.detach()

    def sample(self) -> RouterSample | None:
        """The decision as a sample, if anything was seen of it."""
        ids, dispatch = self._dispatch()
        probabilities, logits = self._rows(self.probabilities), self._rows(self.logits)
        known = [tensor for tensor in (ids, dispatch, probabilities, logits) if tensor is not None]
        if not known:
            return None
        num_tokens = known[0].shape[0]
        if probabilities is not None and probabilities.shape[0] == num_tokens:
            probabilities = probabilities.float()
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        else:
            probabilities = None
        weights = None
        if self.weights is not None and ids is not None and self.weights.numel() == ids.numel():
            weights = self.weights.detach().reshape(ids.shape)
        return RouterSample(
            self.name,
            self.num_classes,
            expert_ids=ids,
            weights=weights,
            dispatch=dispatch,
            probabilities=probabilities,
            logits=logits if logits is not None and logits.shape[0] == num_tokens else None,
        )

    def _dispatch(self) -> tuple[Tensor | None, Tensor | None]:
        """The decision as ids ``[T, k]``, else as ``[T, E]`` booleans."""
        ids = self.ids()
        if ids is not None:
            return ids, None
        if self.reading.places and not self.reading.narrows and (proven := self._proven()) is not None:
            return None, proven
        if self.reading.is_dense:
            shape = (self.num_tokens, self.num_classes)
            device = None if self._hidden is None else self._hidden.device
            return None, torch.ones(shape, dtype=torch.bool, device=device)
        return None, None if self.dispatch is None else self.dispatch.reshape(-1, self.num_classes)

    def usual(self) -> Tensor | None:
        """What the usual sources say: ids ``[T, k]`` or ``[T, E]`` booleans."""
        ids, dispatch = self._dispatch()
        return dispatch if ids is None else ids

    def _rows(self, scores: Tensor | None) -> Tensor | None:
        return None if scores is None else scores.reshape(-1, self.num_classes)

    def ids(self) -> Tensor | None:
        """The selected experts, ``[T, k]``, -1 where a selection was dropped."""
        if self.reading.is_dense:
            return None
        if self.reading.places:
            proven = self._proven()
            if proven is not None and not self.reading.narrows:
                return None if proven.dtype == torch.bool else proven
            self.dispatch = self.dispatch if proven is None else proven
        if self.source is None and self._returned is not None:
            self.read_output(self._returned)  # the experts were not called after all
        if self.expert_ids is None and self.dispatch is not None and self.top_k and self.source is not None:
            used, ids = self.dispatch.reshape(-1, self.num_classes).to(torch.int8).topk(self.top_k, dim=-1)
            return ids.masked_fill(used == 0, -1)
        seen = self._selected() if self.is_selected else self.table
        if seen is None:
            return None
        ids = seen if seen.dim() == 2 else seen.reshape(-1, seen.shape[-1])
        if self.weights is not None and self.num_classes > self.num_experts:
            # A token that chose to compute nothing may be shown to the experts as the first one's, with no weight.
            nothing = (self.weights.detach().reshape(ids.shape) == 0) & (ids == 0)
            ids = ids.masked_fill(nothing, self.num_classes - 1)
        if self.dispatch is not None and self.dispatch.numel() == ids.shape[0] * self.num_classes:
            slots = ids.clamp(0, self.num_classes - 1)
            kept = self.dispatch.reshape(-1, self.num_classes).gather(-1, slots)
            ids = ids.masked_fill(~kept & (slots == ids), -1)
        return ids

    def _selected(self) -> Tensor | None:
        """The selections that have the width k together: the last of that width, else all, else the last of all."""
        selections, k = self._selections, self.top_k
        if len(selections) < 2 or k is None or selections[-1].shape[-1] == k:
            return self.expert_ids
        fitting = [each for each in selections if each.shape[-1] == k]
        if fitting:
            return fitting[-1]
        rows = [each.reshape(-1, each.shape[-1]) for each in selections]
        alike = len({len(each) for each in rows}) == 1
        return torch.cat(rows, dim=-1) if alike and sum(each.shape[-1] for each in rows) == k else self.expert_ids

    def _proven(self) -> Tensor | None:
        """The decision at the places that were proven."""
        places = [self._seen.get(name, []) for name, _ in self.reading.places]
        numbers = [number for _, number in self.reading.places]
        if any(len(found) <= number for found, number in zip(places, numbers, strict=True)):
            return None
        decisions = [found[number] for found, number in zip(places, numbers, strict=True)]
        return union(decisions, self.num_classes)

    def measure_k(self) -> None:
        """Learn k from the widest selection seen, where the layer's design does not say it."""
        if self.top_k is None and self._width is not None and self.dispatch is not None and self.source is not None:
            widest = int(self.dispatch.reshape(-1, self.num_classes).sum(-1).max())
            self.top_k = self._width if widest <= self._width else None

    def learn(self) -> bool:
        """Remember who chooses whom; return whether forwards like this one can be read without watching them.

        A capacity mask is seen in the forward alone.
        """
        if self.is_selected and self.num_tokens != self.num_classes:
            self.experts_choose = self.expert_ids is None
        if self.reading.is_dense:
            return True
        if self.reading.places and (self.reading.narrows or self.reading.names != {ROUTER}):
            return False
        return self.source is not None and (self.expert_ids is None or self.dispatch is None)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)
