"""What the experts of a layer computed in a forward, with which the reading of its decision is compared.

Each expert that is a module is called with its rows; experts in one tensor are multiplied with theirs. Where all
experts compute for all tokens, the weights of the layer's output over theirs are solved for.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from intensive_callbacks.routing.reading import ROUTER, Reading, dispatch_of, load_of, union

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from intensive_callbacks.routing.decision import Decision
    from intensive_callbacks.routing.discovery import MoELayer
    from intensive_callbacks.routing.reading import Place
    from intensive_callbacks.routing.watch import Call

# What selects, in whose favor a tie between readings goes; then what the router returned; then the rest.
SELECTING = ("topk", "argmax", "max", "multinomial", "sort", "argsort", "__getitem__")
WEIGHING = ("softmax", "sigmoid", "relu", "clamp", "where", "masked_fill", "scatter", "threshold")
MAX_PICKS = 6  # selections that are tried together
MAX_SHOWN = 16  # loads in a warning
NUM_SOLVED = 64  # tokens whose weights are solved for


class ExpertRows:
    """The rows that each expert computes in one forward of its layer.

    Args:
        layer: the layer.

    Attributes:
        modules: the experts that are modules of their own, in order.
        rows: how many rows each was called with.
        filled: how many of them are not zero, as capacity buffers have them.
        outputs: what each returned for the first tokens.
        stacked: the rows of experts in one tensor, if a product with them was seen.
        are_masked: whether all experts are called with all rows, some of them set to zero.
        is_clear: whether nothing was seen in this forward.
    """

    def __init__(self, layer: MoELayer) -> None:
        self.num_experts = layer.num_experts
        self.modules = expert_modules(layer)
        self._layer = layer
        self._weights: set[int] = set()
        self.clear()

    def begin(self) -> None:
        """Look for products with the experts' weights, wherever these are now."""
        self._weights = {_storage(p) for p in self._layer.expert_parameters() if not is_lazy(p) and p.dim() > 2}

    def clear(self) -> None:
        """Begin a forward."""
        self.is_clear = True
        self.rows = [0] * self.num_experts
        self.filled: list[list[Tensor]] = [[] for _ in range(self.num_experts)]
        self.outputs: dict[int, Tensor] = {}
        self.stacked: Tensor | None = None
        self.are_masked = False

    def arrive(self, expert: int, args: tuple[Any, ...], kwargs: dict[str, Any], *, filled: bool) -> None:
        """An expert is called; ``filled`` also counts the rows that are not zero."""
        self.is_clear = False
        rows = next((x for x in (*args, *kwargs.values()) if _has_rows(x)), None)
        if rows is not None:
            self.rows[expert] += _num_rows(rows)
            if filled:
                self.filled[expert].append((rows.detach() != 0).any(-1).sum())

    def depart(self, expert: int, output: Any) -> None:
        """An expert returns."""
        if _has_rows(output):
            self.outputs[expert] = output.detach().reshape(-1, output.shape[-1])[:NUM_SOLVED].clone()

    def see_product(self, call: Call) -> None:
        """A product of all experts' weights ``[E, ...]`` with a buffer ``[E, C, D]`` of their tokens."""
        operands = [x for arg in call.args for x in (arg if isinstance(arg, (tuple, list)) else [arg])]
        tensors = [x for x in operands if isinstance(x, Tensor)]
        if self.stacked is not None or not any(_storage(x) in self._weights for x in tensors):
            return
        self.is_clear = False
        others = [x for x in tensors if _storage(x) not in self._weights and x.is_floating_point()]
        buffers = [x for x in others if x.dim() > 2 and x.shape[0] == self.num_experts]
        if "offs" in call.kwargs:  # tokens sorted by their experts
            ends = call.kwargs["offs"].long()
            self.stacked = torch.diff(ends, prepend=ends.new_zeros(1))
        elif buffers:
            self.stacked = (buffers[0].detach() != 0).any(-1).flatten(1).sum(1)
        elif others and call.output.numel() // call.output.shape[-1] == self.num_experts * _num_rows(others[0]):
            self.stacked = torch.full((self.num_experts,), _num_rows(others[0]))

    def computed(self) -> list[Tensor]:
        """The rows per expert, ``[E]``: as called, and those that are not zero; nothing where none were seen."""
        if any(self.rows):
            rows = torch.tensor(self.rows)
            filled = torch.tensor([int(torch.stack(numbers).sum()) if numbers else 0 for numbers in self.filled])
            # All experts are called with all rows, which are set to zero where they do not count.
            self.are_masked = bool((rows == rows[0]).all()) and not bool((filled == filled[0]).all())
            return [filled] if self.are_masked else [rows, filled]
        return [] if self.stacked is None else [self.stacked.cpu()]

    def load(self, device: torch.device, *, filled: bool) -> Tensor:
        """The rows per expert on a device, without waiting for it."""
        if self.stacked is not None:
            return self.stacked.to(device)
        if not filled:
            return torch.tensor(self.rows, device=device)
        zero = torch.zeros((), dtype=torch.int64, device=device)
        return torch.stack([torch.stack(numbers).sum() if numbers else zero for numbers in self.filled])


def expert_modules(layer: MoELayer) -> list[nn.Module]:
    """The experts that are called one by one, in order; none if they are in one tensor."""
    for holder in (m for experts in layer.experts for m in experts.modules()):
        if isinstance(holder, (nn.ModuleList, nn.ModuleDict)) and len(holder) >= layer.num_experts:
            return list(holder.children())[: layer.num_experts]
    return []


def settle(rows: ExpertRows, decision: Decision, output: Any) -> tuple[Reading, str | None]:
    """The reading that what the experts computed agrees with, and what to warn of.

    Args:
        rows: what they computed.
        decision: what was seen of the decision, all candidates included.
        output: what the layer returned.
    """
    truths = rows.computed()
    usual = decision.usual()
    usual_load = None if usual is None else load_of(usual, decision.num_classes)[: rows.num_experts].cpu()
    if not truths or (usual_load is not None and _fits(usual_load, truths)):
        return Reading(), None
    if _is_uniform(truths) and (usual is None or int(truths[-1][0]) % max(decision.num_tokens, 1) == 0):
        return _settle_dense(rows, decision, usual, output)
    for places, candidate in _candidates(decision):
        if _fits(load_of(candidate, decision.num_classes)[: rows.num_experts].cpu(), truths):
            return Reading(places, narrows=usual is not None and _is_part(candidate, usual, decision)), None
    # Of experts that are spread over processes, tokens of others reach those of this one.
    if decision.experts_choose or (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return Reading(), None
    if usual_load is not None and not rows.modules:
        return Reading(), _both(usual_load, truths[0])
    drops = usual_load is not None and bool((truths[-1] <= usual_load).all())
    by_filled = rows.are_masked or (usual_load is not None and drops and not bool((truths[0] <= usual_load).all()))
    said = None if drops or usual_load is None else _both(usual_load, truths[0])
    return Reading(from_experts="filled rows" if by_filled else "rows"), said


def _settle_dense(
    rows: ExpertRows, decision: Decision, usual: Tensor | None, output: Any
) -> tuple[Reading, str | None]:
    """All experts computed for all tokens, or for mixtures of them: the weights say whom a token counts for."""
    solved = _solve(rows, decision, output)
    num_experts = decision.num_classes
    if solved is None:
        return (_last_weights(decision) if usual is None else Reading()), None
    num = len(solved)
    if usual is not None and _agree(dispatch_of(usual[:num], num_experts), solved):
        return Reading(), None
    for places, candidate in _candidates(decision):
        if _agree(dispatch_of(candidate[:num], num_experts), solved):
            return Reading(places), None
    if solved.all():
        return Reading(is_dense=True), None
    return Reading(), None if usual is None else _both(load_of(usual[:num], num_experts), solved.sum(0))


def _last_weights(decision: Decision) -> Reading:
    """The last scores ``[T, E]`` that could weigh the experts; without any, all experts."""
    weights = [(name, number) for name, number, _ in decision.seen() if name in WEIGHING]
    return Reading((weights[-1],)) if weights else Reading(is_dense=True)


def _candidates(decision: Decision) -> Iterator[tuple[tuple[Place, ...], Tensor]]:
    """Every tensor, and some sets of selections, that may be the decision: the likeliest first."""
    found = [((name, number), tensor) for name, number, tensor in decision.seen()]
    rank = {name: i for i, name in enumerate((*SELECTING, ROUTER))}
    found.sort(key=lambda each: rank.get(each[0][0], len(rank)))  # stable: in the order of the forward
    for place, tensor in found:
        yield (place,), tensor
    picks = [each for each in found if each[0][0] in SELECTING and each[1].dtype != torch.bool][:MAX_PICKS]
    for size in range(2, len(picks) + 1):
        for chosen in combinations(picks, size):
            yield tuple(place for place, _ in chosen), union([t for _, t in chosen], decision.num_classes)


def _fits(load: Tensor, truths: Sequence[Tensor]) -> bool:
    """Whether a load is what the experts computed, or a whole fraction of it, as of samples with many tokens each."""
    total = int(load.sum())
    for truth in truths:
        times, rest = divmod(int(truth.sum()), total) if total else (0, 1)
        if rest == 0 and times > 0 and torch.equal(truth, load * times):
            return True
    return False


def _is_uniform(truths: Sequence[Tensor]) -> bool:
    return all(bool((truth == truth[0]).all()) for truth in truths)


def _is_part(candidate: Tensor, usual: Tensor, decision: Decision) -> bool:
    """Whether a decision selects nothing but what the usual one does."""
    if len(candidate) != len(usual) or usual.dtype == torch.bool or candidate.dtype != torch.bool:
        return False
    return not bool((candidate & ~dispatch_of(usual, decision.num_classes)).any())


def _solve(rows: ExpertRows, decision: Decision, output: Any) -> Tensor | None:
    """Which experts' outputs the layer's output is made of, for the first tokens, ``[T, E]``; ``None`` if unknown."""
    target = next((x for x in _flat(output) if _has_rows(x) and _num_rows(x) == decision.num_tokens), None)
    parts = [rows.outputs.get(expert) for expert in range(rows.num_experts)]
    if target is None or any(part is None for part in parts) or decision.num_classes > rows.num_experts:
        return None
    target = target.detach().reshape(decision.num_tokens, -1)[:NUM_SOLVED].double().cpu()
    known = [part.double().cpu() for part in parts if part is not None and part.shape == target.shape]
    if len(known) < rows.num_experts or _are_coarse(rows) or target.shape[1] < rows.num_experts:
        return None
    # With NumPy, which no mode that counts the model's operators sees.
    matrix, wanted = torch.stack(known, -1).numpy(), target.numpy()  # [T, D, E], [T, D]
    if not np.isfinite(matrix).all() or (np.linalg.matrix_rank(matrix) < rows.num_experts).any():
        return None
    weights = (np.linalg.pinv(matrix) @ wanted[..., None])[..., 0]
    left = (matrix @ weights[..., None])[..., 0] - wanted
    if (np.linalg.norm(left, axis=-1) > 1e-3 * np.linalg.norm(wanted, axis=-1)).any():
        return None
    return torch.from_numpy(np.abs(weights) > 1e-4 * np.abs(weights).max(-1, keepdims=True))


def _are_coarse(rows: ExpertRows) -> bool:
    """Whether the experts' outputs are too coarse to be solved for."""
    return any(part.dtype not in (torch.float32, torch.float64) for part in rows.outputs.values())


def _agree(dispatch: Tensor, solved: Tensor) -> bool:
    return dispatch.shape == solved.shape and float((dispatch.cpu() == solved).double().mean()) > 0.99


def _both(read: Tensor, computed: Tensor) -> str:
    return f"its selections read as {_brief(read)} per expert, and its experts computed {_brief(computed)}"


def _brief(load: Tensor) -> str:
    numbers = load.tolist()
    return str(numbers) if len(numbers) <= MAX_SHOWN else f"[{', '.join(map(str, numbers[:MAX_SHOWN]))}, ...]"


def _has_rows(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and not x.is_nested and x.dim() > 1


def _num_rows(x: Tensor) -> int:
    return x.numel() // max(x.shape[-1], 1)


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr() if x.layout == torch.strided and not x.is_meta else 0


def _flat(output: Any) -> list[Any]:
    return list(output) if isinstance(output, (tuple, list)) else [output]
