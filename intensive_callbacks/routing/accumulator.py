"""What is added to a layer's sums when its forward ends: the selections made, and those that were to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from intensive_callbacks.routing.context import RoutingContext
    from intensive_callbacks.routing.decision import Decision
    from intensive_callbacks.routing.layer import MoELayer
    from intensive_callbacks.routing.proof import ExpertRows
    from intensive_callbacks.routing.sample import RouterSample
    from intensive_callbacks.routing.statistics import RoutingStatistics


class LayerAccumulator:
    """Adds one layer's decisions to its statistics.

    Args:
        context: the switches and the padding mask of the running forward.
        layer: the layer.
        statistics: what to add to.

    Attributes:
        ran: whether a forward was seen.
        has_read: whether its decision could be read.
    """

    def __init__(self, context: RoutingContext, layer: MoELayer, statistics: RoutingStatistics) -> None:
        self._context, self._layer, self._statistics = context, layer, statistics
        self.ran = self.has_read = False
        # How many rows the router makes of a token that enters; 0 where that is no whole number.
        self._rows_per_token: int | None = None
        # Whether the layer ran in training inside the model, and with how many rows.
        self._ran_inside, self._lengths = False, set[int]()

    def add(self, decision: Decision, computed: ExpertRows) -> None:
        """Add the decision of one forward, or the rows that the experts computed where these are counted."""
        context, by_rows = self._context, decision.reading.from_experts
        self.ran = True
        if by_rows:
            self._add_rows(decision, computed, filled=by_rows == "filled rows")
            return
        ids = None if context.sampling or context.on_sample is not None else decision.ids()
        if ids is not None:  # nearly every step of a training: as little as possible
            self.has_read = True
            num_rows, width = ids.shape
            mask = context.mask_for(self._layer.name, num_rows)
            entered = self._rows_entered(decision, num_rows)
            k = 0 if self._is_repeated(entered) else decision.top_k or width
            self._statistics.count(ids, mask, k if entered == num_rows else 0)
            if entered != num_rows:
                self._statistics.expect(k, entered, context.mask_for(self._layer.name, entered))
        elif (sample := decision.sample()) is not None:
            self._observe(sample)
            self._expect(decision, sample.num_tokens, None if sample.expert_ids is None else sample.expert_ids.shape[1])
        else:
            self._expect(decision, 0, None)

    def _expect(self, decision: Decision, num_rows: int, width: int | None) -> None:
        """Add the selections that were to be made by the tokens that entered, however many were read."""
        num_selections = decision.num_classes if decision.reading.is_dense else decision.top_k or width
        rows = self._rows_entered(decision, num_rows)
        if num_selections and not self._is_repeated(rows):
            self._statistics.expect(num_selections, rows, self._context.mask_for(self._layer.name, rows))

    def _is_repeated(self, num_rows: int) -> bool:
        """Whether this is a forward of before once more, for backward: with gradients, as long, outside the model."""
        is_compiling = torch.compiler.is_compiling()
        if self._context.running is not None:
            # A reentrant checkpoint has no gradients the first time.
            if self._layer.block.training or torch.is_grad_enabled():
                self._ran_inside = True
                if not is_compiling:
                    self._lengths.add(num_rows)
            return False
        if not torch.is_grad_enabled():
            return False
        return self._ran_inside and (is_compiling or num_rows in self._lengths)

    def _rows_entered(self, decision: Decision, num_rows: int) -> int:
        """The rows that the tokens which entered the layer make, where ``num_rows`` were read."""
        entered = decision.num_tokens or num_rows
        if self._rows_per_token is None and num_rows and not torch.compiler.is_compiling():
            times, rest = divmod(num_rows, entered)
            self._rows_per_token = times if rest == 0 else 0
        return entered * self._rows_per_token if self._rows_per_token else num_rows or entered

    def _add_rows(self, decision: Decision, computed: ExpertRows, *, filled: bool) -> None:
        """Count the rows that the experts received; what of the selections did not arrive was dropped."""
        self.has_read = True
        load = computed.load(self._statistics.device, filled=filled)
        selected = decision.usual()
        sample = decision.sample()
        num_selected = None if selected is None or selected.dtype == torch.bool else selected.numel()
        self._statistics.count_rows(load, num_selected, decision.num_tokens)
        width = None if selected is None or selected.dtype == torch.bool else selected.shape[1]
        self._expect(decision, decision.num_tokens, width)
        if sample is not None and self._context.sampling:
            sample.mask_padding(self._context.mask_for(self._layer.name, sample.num_tokens))
            self._statistics.observe_scores(sample)

    def add_sample(self, sample: RouterSample, top_k: int | None) -> None:
        """Add what a reader returned; each token was to make as many selections as it has ids, else ``top_k``."""
        self.ran = True
        self._observe(sample)
        width = top_k if sample.expert_ids is None else sample.expert_ids.shape[1]
        if width:
            self._statistics.expect(width, sample.num_tokens, sample.mask)

    def _observe(self, sample: RouterSample) -> None:
        self.has_read = True
        if sample.mask is None:
            sample.mask_padding(self._context.mask_for(self._layer.name, sample.num_tokens))
        self._statistics.observe(sample, sampling=self._context.sampling)
        self._context.publish(sample)
