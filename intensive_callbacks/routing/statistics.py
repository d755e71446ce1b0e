"""The sums that every routing metric is formed from: one fixed-size accumulator per layer, on the layer's device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from intensive_callbacks.functional.routing import (
    PROBABILITY_TOLERANCE,
    token_confidence,
    token_entropy,
    token_log_partition,
    token_margin,
)
from intensive_callbacks.routing.kept import KeptIds, count_kept

if TYPE_CHECKING:
    from intensive_callbacks.routing.sample import RouterSample

# The order of the sums in one row: first what is counted in integers, then what is summed in floating point.
COUNTS = (
    *("load", "num_invalid", "num_dropped", "num_tokens", "num_expected"),
    *("num_probabilities", "num_selected", "num_logits"),
)
REALS = ("importance", "probability", "scored_load", "entropy", "margin", "confidence", "log_partition", "z")
PER_EXPERT = ("load", "importance", "probability", "scored_load")


class RoutingStatistics:
    """Sums over the tokens that one router has seen.

    ``observe`` only adds in place: it allocates no state, never waits for the device and can be compiled. The sums live
    outside the model, so that no state_dict, DDP broadcast or copy of it meets them. Their names are those of the
    routing metrics' states: ``metric.merge_state(states)`` takes the ones it knows.

    ===================== ==== ==================================================================================
    ``load``              [E]  selections per expert (int64), of every observed forward
    ``num_invalid``       []   ids outside [-1, E) (int64), which are no expert's: of every observed forward
    ``num_dropped``       []   selections that no expert received (int64), of every observed forward
    ``num_tokens``        []   tokens (int64), of every observed forward
    ``num_expected``      []   selections that its tokens were to make, k each (int64), of every observed forward
    ``importance``        [E]  sum of the weights of the selections; this and all below only while sampling
    ``probability``       [E]  sum of the router's probabilities p_t
    ``scored_load``       [E]  selections of the tokens in ``probability``
    ``entropy``           []   sum of H(p_t), in nats
    ``margin``            []   sum of the greatest less the second greatest probability
    ``num_probabilities`` []   tokens in these four (int64)
    ``confidence``        []   sum of the probabilities of the selected experts
    ``num_selected``      []   tokens in it (int64)
    ``log_partition``     []   sum of logsumexp(logits), in nats
    ``z``                 []   sum of logsumexp(logits)^2
    ``num_logits``        []   tokens in these two (int64)
    ===================== ==== ==================================================================================

    Args:
        num_experts: E, the classes of the router.
        device: where to count.

    Example:
        >>> from intensive_callbacks import RouterSample
        >>> statistics = RoutingStatistics(num_experts=4)
        >>> statistics.observe(RouterSample("mlp", 4, expert_ids=torch.tensor([[0, 1], [2, -1], [3, 4]])))
        >>> states = statistics.states()
        >>> states["load"], states["num_dropped"], states["num_invalid"]
        (tensor([1, 1, 1, 1]), tensor(1), tensor(1))
    """

    def __init__(self, num_experts: int, device: torch.device | str = "cpu") -> None:
        self.num_experts = num_experts
        self.device = torch.device(device)
        real = torch.float32 if self.device.type == "mps" else torch.float64
        with torch.inference_mode(mode=False):  # a tensor born in inference mode could not be added to outside it
            # Slot E counts the invalid ids, slot E + 1 the unused ones: a single scatter_add_, no selection by value.
            self._counts = torch.zeros(num_experts + 2, dtype=torch.int64, device=self.device)
            # One element where no dimension would do: torch.compile (2.13) loses what is added to a float64 scalar.
            self._sums = {
                name: torch.zeros(
                    num_experts if name in PER_EXPERT else 1,
                    dtype=torch.int64 if name in COUNTS else real,
                    device=self.device,
                )
                for name in (*COUNTS[3:], *REALS)
            }
            self._one = torch.ones(1, dtype=torch.int64, device=self.device)
        # Numbers of tokens that the host knows wait here for the next reading: no operator per forward for them.
        self._waiting: dict[str, int] = {}
        self.kept = KeptIds()

    def states(self) -> dict[str, Tensor]:
        """The sums by name, as of now: the accumulators themselves, not copies."""
        count_kept([self])
        for name, number in self._waiting.items():
            self._sums[name].add_(number)
        self._waiting.clear()
        load, (num_invalid, num_dropped) = self._counts[:-2], self._counts[-2:]
        sums = {name: total if name in PER_EXPERT else total[0] for name, total in self._sums.items()}
        return {"load": load, "num_invalid": num_invalid, "num_dropped": num_dropped, **sums}

    @property
    def integers(self) -> list[Tensor]:
        """The integer tensors that are added to, in the order of a row."""
        return [self._counts, *(self._sums[name] for name in COUNTS[3:])]

    @property
    def reals(self) -> list[Tensor]:
        """The floating-point tensors that are added to, in the order of a row."""
        return [self._sums[name] for name in REALS]

    def waiting(self) -> list[int]:
        """What is still to be added to the sums from ``num_tokens`` to ``num_logits``."""
        return [self._waiting.get(name, 0) for name in COUNTS[3:]]

    def forget_waiting(self) -> None:
        """Drop what is still to be added: the accumulators are about to be overwritten."""
        self._waiting.clear()
        self.kept.forget()

    def to(self, device: torch.device | str) -> None:
        """Move the sums to another device; where they are already there they stay the same tensors."""
        count_kept([self])
        self.device = torch.device(device)
        with torch.inference_mode(mode=False):
            self._sums = {name: state.to(device) for name, state in self._sums.items()}
            self._counts, self._one = self._counts.to(device), self._one.to(device)

    def expect(self, num_selections: int, num_tokens: int, mask: Tensor | None) -> None:
        """Add the selections that the tokens which entered the layer were to make; ``mask`` leaves out padding."""
        if num_selections == 0:
            return
        if mask is None:
            self._add_tokens("num_expected", num_selections * num_tokens, None)
        else:
            self._sums["num_expected"].add_(mask.sum(), alpha=num_selections)

    def observe(self, sample: RouterSample, *, sampling: bool = True) -> None:
        """Add one forward pass of the router; ``sampling`` also adds the sums that need weights or probabilities."""
        if sample.expert_ids is not None:
            self.count(sample.expert_ids, sample.mask)
        else:
            if sample.dispatch is not None:
                self._count_dispatch(sample.dispatch, sample.mask)
            self._add_tokens("num_tokens", sample.num_tokens, sample.mask)
        if sampling:
            self.observe_scores(sample)

    def observe_scores(self, sample: RouterSample) -> None:
        """Add the sums that need weights or probabilities alone."""
        with torch.no_grad():
            selected = None if sample.expert_ids is None else self._valid(sample.expert_ids)
            self._sample_weights(sample, selected)
            self._sample_probabilities(sample)

    def count_rows(self, load: Tensor, num_selected: int | None, num_tokens: int) -> None:
        """Add the rows per expert, ``[E]``, that the experts received in one forward, padding included.

        Of ``num_selected`` selections, if they are known, those that did not arrive were dropped.
        """
        num_dropped = 0 if num_selected is None else (num_selected - load.sum()).clamp(min=0)
        self._counts[: len(load)].add_(load)
        self._counts[-1].add_(num_dropped)
        self._add_tokens("num_tokens", num_tokens, None)

    def count(self, ids: Tensor, mask: Tensor | None, num_expected: int = 0) -> None:
        """Add the ids ``[T, k]`` that one forward selected, those of padding left out.

        Each token also was to make ``num_expected`` selections. Mostly the ids are kept, and counted when the sums are
        read: nothing may write into them or the mask before.
        """
        if torch.compiler.is_compiling() or not self.kept.keep(ids, mask, num_expected, self.device):
            self._count_now(ids, mask)
            self.expect(num_expected, ids.shape[0], mask)
            self._add_tokens("num_tokens", ids.shape[0], mask)
            return
        if mask is None:
            self._wait("num_tokens", ids.shape[0])
            self._wait("num_expected", ids.shape[0] * num_expected)
        if self.kept.is_full:
            count_kept([self])

    def _count_now(self, ids: Tensor, mask: Tensor | None) -> None:
        ids = ids if ids.dtype == torch.int64 else ids.to(torch.int64)
        slots = ids.clamp(-2, self.num_experts)  # -2 and E, the invalid ones, are slot E modulo E + 2
        ones = self._one if mask is None else mask[:, None].to(torch.int64)
        if self.device.type == "cpu":  # one operator, which takes negative indices; on a GPU it would sort the ids
            self._counts.index_put_((slots,), ones, accumulate=True)
        else:
            slots = slots.flatten().remainder(self.num_experts + 2)
            self._counts.scatter_add_(0, slots, ones.expand(ids.shape).flatten())

    def _count_dispatch(self, dispatch: Tensor, mask: Tensor | None) -> None:
        self._counts[:-2].add_((dispatch if mask is None else dispatch & mask[:, None]).sum(0))

    def _add_tokens(self, name: str, number: int, mask: Tensor | None) -> None:
        if mask is not None:
            self._sums[name].add_(mask.sum())
        elif torch.compiler.is_compiling():  # a number that changes would be compiled anew
            self._sums[name].add_(number)
        else:
            self._wait(name, number)

    def _wait(self, name: str, number: int) -> None:
        self._waiting[name] = self._waiting.get(name, 0) + number

    def _add(self, name: str, values: Tensor, mask: Tensor | None) -> None:
        """Add a value per token, ``[T]`` or ``[T, E]``, without those of padding."""
        if mask is not None:
            values = values.masked_fill(~mask.reshape(mask.shape + (1,) * (values.dim() - 1)), 0)
        self._sums[name].add_(values.sum(0, dtype=self._sums[name].dtype))

    def _valid(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The ids as indices that no gather refuses, and which of them are an expert's."""
        ids = ids.to(torch.int64)
        slots = ids.clamp(0, self.num_experts - 1)
        return slots, slots == ids

    def _sample_weights(self, sample: RouterSample, selected: tuple[Tensor, Tensor] | None) -> None:
        if sample.weights is None:
            return
        weights = sample.weights.to(self._sums["importance"].dtype)
        if selected is None:
            self._add("importance", weights, sample.mask)
            return
        slots, used = selected
        if sample.mask is not None:
            used = used & sample.mask[:, None]
        self._sums["importance"].scatter_add_(0, slots.flatten(), weights.masked_fill(~used, 0).flatten())

    def _sample_load(self, sample: RouterSample) -> None:
        """Add the selections of tokens whose probabilities are added: a product of both needs the same tokens."""
        if sample.expert_ids is not None:
            slots, used = self._valid(sample.expert_ids)
            used = used if sample.mask is None else used & sample.mask[:, None]
            load = self._sums["scored_load"]
            load.scatter_add_(0, slots.flatten(), used.flatten().to(load.dtype))
        elif sample.dispatch is not None:
            self._add("scored_load", sample.dispatch, sample.mask)

    def forget_scores(self) -> None:
        """Set the sums that need weights or probabilities to zero, in place."""
        for name in (*COUNTS[-3:], *REALS):
            self._sums[name].zero_()
            self._waiting.pop(name, None)

    def _sample_probabilities(self, sample: RouterSample) -> None:
        if sample.logits is not None:
            log_partition = token_log_partition(sample.logits.float())
            self._add("log_partition", log_partition, sample.mask)
            self._add("z", log_partition.square(), sample.mask)
            self._add_tokens("num_logits", sample.num_tokens, sample.mask)
        if sample.probabilities is not None:
            probabilities = _or_nan(sample.probabilities.float())
        elif sample.logits is not None:
            probabilities = sample.logits.float().softmax(-1)
        else:
            return
        self._add_tokens("num_probabilities", sample.num_tokens, sample.mask)
        self._add("probability", probabilities, sample.mask)
        self._add("entropy", token_entropy(probabilities), sample.mask)
        if self.num_experts > 1:
            self._add("margin", token_margin(probabilities), sample.mask)
        self._sample_load(sample)
        if sample.expert_ids is not None:
            confidence = token_confidence(probabilities, sample.expert_ids)
        elif sample.dispatch is not None:
            confidence = (probabilities * sample.dispatch).sum(-1)
        else:
            return
        self._add("confidence", confidence, sample.mask)
        self._add_tokens("num_selected", sample.num_tokens, sample.mask)


def _or_nan(probabilities: Tensor) -> Tensor:
    """Probabilities, ``[T, E]``; a row that is none, and so what is formed of it, is NaN."""
    probable = (probabilities >= 0).all(-1) & ((probabilities.sum(-1) - 1).abs() <= PROBABILITY_TOLERANCE)
    return probabilities.masked_fill(~probable[:, None], math.nan)


def row_columns(num_experts: int) -> dict[str, slice]:
    """Where each sum stands in one row of a layer: the integers, then the reals."""
    columns, start = {}, 0
    for name in (*COUNTS, *REALS):
        stop = start + (num_experts if name in PER_EXPERT else 1)
        columns[name] = slice(start, stop)
        start = stop
    return columns
