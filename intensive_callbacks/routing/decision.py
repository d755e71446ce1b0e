"""What is seen of one router's decision while its layer runs, put together from whatever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.routing.sample import RouterSample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intensive_callbacks.routing.discovery import MoELayer


class Decision:
    """The decision of one layer in the running forward.

    The dispatch is taken from the most direct of its sources: ``experts`` (what the experts were called with), else
    ``router`` (what the router returned), else the selections that the layer's forward was seen to make.

    Args:
        layer: the layer that decides.
    """

    def __init__(self, layer: MoELayer) -> None:
        self.name = layer.name
        self.num_experts = layer.num_experts
        self.num_classes = layer.num_classes
        self.top_k = layer.num_experts_per_token
        self.experts_choose = False
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
        self._returned: Any = None

    @property
    def is_made(self) -> bool:
        """Whether a selection was seen."""
        return self.expert_ids is not None or self.dispatch is not None

    def begin(self, inputs: tuple[Any, ...]) -> None:
        """A forward with these inputs begins: the first floating-point tensor has the tokens."""
        self.clear()
        for hidden in inputs:
            if isinstance(hidden, Tensor) and hidden.is_floating_point():
                if hidden.dim() > 1:
                    self.num_tokens = hidden.numel() // max(hidden.shape[-1], 1)
                return

    def covers(self, scores: Tensor) -> bool:
        """Whether scores are of all tokens, and not what an expert selects among its own features for its tokens."""
        ids = self.expert_ids
        return ids is None or scores.numel() // self.num_classes >= ids.numel() // max(ids.shape[-1], 1)

    def select(self, ids: Tensor) -> None:
        """The forward selected these experts, in place of what it selected before."""
        self.expert_ids, self.dispatch = ids.detach(), None

    def rewrite(self, ids: Tensor) -> None:
        """The forward moved or masked the ids that it had selected."""
        self.expert_ids = ids.detach()

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
            self.expert_ids = ids.detach()[..., None] if ids.dim() == 1 else ids.detach()
            if isinstance(weights, Tensor) and weights.numel() == self.expert_ids.numel():
                self.weights = weights.detach()
            return
        self.source, self.expert_ids, self.weights = source, None, None
        self.dispatch = dispatch.detach()

    def sample(self) -> RouterSample | None:
        """The decision as a sample, if anything was seen of it."""
        ids = self.ids()
        dispatch = self.dispatch.reshape(-1, self.num_classes) if self.dispatch is not None and ids is None else None
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
        return RouterSample(
            self.name,
            self.num_classes,
            expert_ids=ids,
            weights=self.weights.reshape(ids.shape) if self.weights is not None and ids is not None else None,
            dispatch=dispatch,
            probabilities=probabilities,
            logits=logits if logits is not None and logits.shape[0] == num_tokens else None,
        )

    def _rows(self, scores: Tensor | None) -> Tensor | None:
        return None if scores is None else scores.reshape(-1, self.num_classes)

    def ids(self) -> Tensor | None:
        """The selected experts, ``[T, k]``, -1 where a selection was dropped."""
        if self.source is None and self._returned is not None:
            self.read_output(self._returned)  # the experts were not called after all
        if self.expert_ids is None and self.dispatch is not None and self.top_k and self.source is not None:
            used, ids = self.dispatch.reshape(-1, self.num_classes).to(torch.int8).topk(self.top_k, dim=-1)
            return ids.masked_fill(used == 0, -1)
        seen = self.expert_ids if self.is_made else self.table
        if seen is None:
            return None
        ids = seen if seen.dim() == 2 else seen.reshape(-1, seen.shape[-1])
        if self.weights is not None and self.num_classes > self.num_experts:
            # A token that chose to compute nothing may be shown to the experts as the first one's, with no weight.
            nothing = (self.weights.reshape(ids.shape) == 0) & (ids == 0)
            ids = ids.masked_fill(nothing, self.num_classes - 1)
        if self.dispatch is not None and self.dispatch.numel() == ids.shape[0] * self.num_classes:
            slots = ids.clamp(0, self.num_classes - 1)
            kept = self.dispatch.reshape(-1, self.num_classes).gather(-1, slots)
            ids = ids.masked_fill(~kept & (slots == ids), -1)
        return ids

    def learn(self) -> bool:
        """Remember who chooses whom; return whether forwards like this one can be read without watching them.

        A capacity mask is seen in the forward alone.
        """
        if self.is_made and self.num_tokens != self.num_classes:
            self.experts_choose = self.expert_ids is None
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
