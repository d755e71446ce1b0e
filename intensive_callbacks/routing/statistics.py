"""The sums that every routing metric is formed from: one fixed-size accumulator per layer, on the layer's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intensive_callbacks.routing.sample import RouterSample


class RoutingStatistics:
    """Sums over the tokens that one router has seen.

    ``observe`` only adds in place: it allocates no state, never waits for the device and can be compiled. The sums live
    outside the model, so that no state_dict, DDP broadcast or copy of it meets them. Their names are those of the
    routing metrics' states: ``metric.merge_state(states)`` takes the ones it knows.

    ===================== ==== ==================================================================================
    ``load``              [E]  selections per expert (int64), of every observed forward
    ``num_tokens``        []   tokens (int64), of every observed forward
    ``num_dropped``       []   selections that no expert received (int64), of every observed forward
    ``importance``        [E]  sum of the weights of the selections; this and all below only while sampling
    ``probability``       [E]  sum of the router's probabilities p_t
    ``entropy``           []   sum of H(p_t), in nats
    ``margin``            []   sum of the greatest less the second greatest probability
    ``num_probabilities`` []   tokens in these three (int64)
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
        >>> statistics.observe(RouterSample("mlp", 4, expert_ids=torch.tensor([[0, 1], [2, -1]])))
        >>> statistics.states()["load"], statistics.states()["num_dropped"]
        (tensor([1, 1, 1, 0]), tensor(1))
    """

    WIDE = ("load", "importance", "probability")
    COUNTS = ("load", "num_tokens", "num_dropped", "num_probabilities", "num_selected", "num_logits")
    NAMES = (*COUNTS, "importance", "probability", "entropy", "margin", "confidence", "log_partition", "z")

    def __init__(self, num_experts: int, device: torch.device | str = "cpu") -> None:
        self.num_experts = num_experts
        self.device = torch.device(device)
        real = torch.float32 if self.device.type == "mps" else torch.float64
        with torch.inference_mode(mode=False):  # a tensor born in inference mode could not be added to outside it
            # One element where no dimension would do: torch.compile (2.13) loses what is added to a float64 scalar.
            self._sums = {
                name: torch.zeros(
                    num_experts if name in self.WIDE else 1,
                    dtype=torch.int64 if name in self.COUNTS else real,
                    device=self.device,
                )
                for name in self.NAMES
                if name not in ("load", "num_dropped")
            }
            # The unused slots, -1 modulo E + 1, are counted at E: no selection by value, one scatter_add_.
            self._counts = torch.zeros(num_experts + 1, dtype=torch.int64, device=self.device)
            self._one = torch.ones(1, dtype=torch.int64, device=self.device)
        # Tokens whose number the host knows wait here for the next reading: no operator per forward for them.
        self._waiting: dict[str, int] = {}

    def states(self) -> dict[str, Tensor]:
        """The sums by name, as of now: the accumulators themselves, not copies."""
        for name, number in self._waiting.items():
            self._sums[name].add_(number)
        self._waiting.clear()
        sums = {name: total if name in self.WIDE else total[0] for name, total in self._sums.items()}
        return {**sums, "load": self._counts[:-1], "num_dropped": self._counts[-1]}

    def to(self, device: torch.device | str) -> None:
        """Move the sums to another device; where they are already there they stay the same tensors."""
        self.device = torch.device(device)
        with torch.inference_mode(mode=False):
            self._sums = {name: state.to(device) for name, state in self._sums.items()}
            self._counts, self._one = self._counts.to(device), self._one.to(device)

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Overwrite the sums in place with those of an earlier ``states`` (of which the caller kept copies)."""
        for name, state in self.states().items():
            state.copy_(states[name])

    def reset(self) -> None:
        """Set every sum to zero, in place."""
        self._waiting.clear()
        self._counts.zero_()
        for state in self._sums.values():
            state.zero_()

    def observe(self, sample: RouterSample, *, sampling: bool = True) -> None:
        """Add one forward's decision: the counts always, what needs weights or probabilities while ``sampling``."""
        if sample.expert_ids is not None:
            self.count(sample.expert_ids, sample.mask)
        else:
            if sample.dispatch is not None:
                dispatch = sample.dispatch if sample.mask is None else sample.dispatch & sample.mask[:, None]
                missed = ~sample.dispatch.any(-1) if sample.mask is None else sample.mask & ~sample.dispatch.any(-1)
                self._counts.add_(torch.cat([dispatch.sum(0), missed.sum(0, keepdim=True)]))
            self._add_tokens("num_tokens", sample.num_tokens, sample.mask)
        if sampling:
            with torch.no_grad():
                self._sample_weights(sample)
                self._sample_probabilities(sample)

    def count(self, ids: Tensor, mask: Tensor | None) -> None:
        """Add the ids ``[T, k]`` that one forward selected, those of padding left out."""
        ids = ids.to(torch.int64)
        ones = self._one if mask is None else mask[:, None].to(torch.int64)
        if self.device.type == "cpu":  # one operator, which knows what -1 is; on a GPU it would sort the ids
            self._counts.index_put_((ids,), ones, accumulate=True)
        else:
            slots = ids.flatten().remainder(self.num_experts + 1)
            self._counts.scatter_add_(0, slots, ones.expand(ids.shape).flatten())
        self._add_tokens("num_tokens", ids.shape[0], mask)

    def _add_tokens(self, name: str, number: int, mask: Tensor | None) -> None:
        if mask is not None:
            self._sums[name].add_(mask.sum())
        elif torch.compiler.is_compiling():  # a number that changes would be compiled anew
            self._sums[name].add_(number)
        else:
            self._waiting[name] = self._waiting.get(name, 0) + number

    def _add(self, name: str, values: Tensor, mask: Tensor | None) -> None:
        """Add what each token brings, ``[T]`` or ``[T, E]``, less that of padding."""
        if mask is not None:
            values = values.masked_fill(~mask.reshape(mask.shape + (1,) * (values.dim() - 1)), 0)
        self._sums[name].add_(values.sum(0, dtype=self._sums[name].dtype))

    def _sample_weights(self, sample: RouterSample) -> None:
        if sample.weights is None:
            return
        weights = sample.weights.to(self._sums["importance"].dtype)
        if sample.expert_ids is None:
            self._add("importance", weights, sample.mask)
            return
        used = sample.expert_ids >= 0
        if sample.mask is not None:
            used = used & sample.mask[:, None]
        slots = sample.expert_ids.to(torch.int64).clamp_min(0).flatten()
        self._sums["importance"].scatter_add_(0, slots, weights.masked_fill(~used, 0).flatten())

    def _sample_probabilities(self, sample: RouterSample) -> None:
        if sample.logits is not None:
            log_partition = sample.logits.float().logsumexp(-1)
            self._add("log_partition", log_partition, sample.mask)
            self._add("z", log_partition.square(), sample.mask)
            self._add_tokens("num_logits", sample.num_tokens, sample.mask)
        if sample.probabilities is not None:
            probabilities = sample.probabilities.float()
        elif sample.logits is not None:
            probabilities = sample.logits.float().softmax(-1)
        else:
            return
        self._add_tokens("num_probabilities", sample.num_tokens, sample.mask)
        self._add("probability", probabilities, sample.mask)
        self._add("entropy", torch.special.entr(probabilities).sum(-1), sample.mask)
        if self.num_experts > 1:
            self._add("margin", -probabilities.topk(2).values.diff(dim=-1).squeeze(-1), sample.mask)
        if sample.expert_ids is not None:
            chosen = probabilities.gather(-1, sample.expert_ids.to(torch.int64).clamp_min(0))
            chosen = chosen.masked_fill(sample.expert_ids < 0, 0)
        elif sample.dispatch is not None:
            chosen = probabilities * sample.dispatch
        else:
            return
        self._add("confidence", chosen.sum(-1), sample.mask)
        self._add_tokens("num_selected", sample.num_tokens, sample.mask)
