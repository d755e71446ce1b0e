"""How routing is read that no module shows: the selections that a layer's forward makes, as torch executes them.

A selection is a top-k, argmax, sort or draw over a dimension of E entries; the last one is the dispatch. It is followed
through the gathers and fills that rewrite it, and narrowed by the capacity mask that an einsum dispatches with.
``torch.compile`` traces all this as part of the forward; a mode below torch's dispatcher would stop compilation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from intensive_callbacks.routing.decision import Decision

    Handler = Callable[["Decision", "Call"], None]


@dataclass(slots=True)
class Call:
    """One call of a function of torch."""

    name: str
    output: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument, wherever it stands."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def indices(self) -> Tensor:
        """The output, or the second of two."""
        indices: Tensor = self.output if isinstance(self.output, Tensor) else self.output[1]
        return indices


def _select(decision: Decision, source: Tensor, indices: Tensor, dim: int) -> None:
    """Note the selection of ``indices`` along ``dim`` of the scores ``source``."""
    if decision.source is not None or not source.is_floating_point() or source.dim() == 0:
        return
    last = source.dim() - 1
    dim = dim + last + 1 if dim < 0 else dim
    classes = [i for i in range(min(source.dim(), 3)) if i != dim and source.shape[i] == decision.num_classes]
    # With as many tokens as experts the shape does not tell who chooses; other forwards have.
    if source.shape[dim] == decision.num_classes and not (classes and decision.experts_choose):
        if decision.covers(source):
            decision.select(indices if dim == last else indices.detach().movedim(dim, -1))
        return
    if classes and decision.expert_ids is None:  # the experts choose their tokens
        chosen = torch.zeros(source.shape, dtype=torch.bool, device=source.device)
        decision.narrow(chosen.scatter(dim, indices.detach(), value=True).movedim(classes[-1], -1))


def _see_topk(decision: Decision, call: Call) -> None:
    _select(decision, call.argument(0, "input"), call.indices, call.argument(2, "dim", -1))


def _see_max(decision: Decision, call: Call) -> None:
    """``argmax`` and ``max`` along a dimension: a top-1."""
    dim = call.argument(1, "dim")
    if isinstance(dim, int):
        indices = call.indices if call.argument(2, "keepdim", default=False) else call.indices.unsqueeze(dim)
        _select(decision, call.argument(0, "input"), indices, dim)


def _see_draw(decision: Decision, call: Call) -> None:
    _select(decision, call.argument(0, "input"), call.indices, -1)


def _see_sort(decision: Decision, call: Call) -> None:
    """A ranking of all experts, which is a selection once it is cut."""
    source = call.argument(0, "input")
    if source.is_floating_point() and source.shape[-1:] == (decision.num_classes,) and decision.covers(source):
        decision.rank(call.indices)


def _see_rewriting(decision: Decision, call: Call) -> None:
    """Follow the ids into a tensor of their shape; cut a ranking; take the entries of a table where nothing scores."""
    output = call.output
    if decision.source is not None or not isinstance(output, Tensor) or output.dtype not in (torch.int64, torch.int32):
        return
    if decision.ranking is not None and call.argument(0, "input") is decision.ranking:
        if output.dim() == decision.ranking.dim():
            decision.select(output)
            decision.rank(None)
    elif decision.expert_ids is not None:
        ids = decision.expert_ids
        sources = [x for x in (*call.args, *call.kwargs.values()) if isinstance(x, Tensor) and x.dtype == ids.dtype]
        if output.shape == ids.shape and any(source.shape == ids.shape for source in sources):
            decision.rewrite(output)
    elif decision.table is None and decision.dispatch is None and decision.num_tokens:
        per_token, rest = divmod(output.numel(), decision.num_tokens)
        if rest == 0 and 0 < per_token <= decision.num_classes:
            decision.look_up(output.reshape(decision.num_tokens, per_token))


def _see_capacity(decision: Decision, call: Call) -> None:
    """A mask over tokens, experts and places that gathers the experts' inputs: it has which selections are kept."""
    operands = call.args[1] if isinstance(call.args[1], (tuple, list)) else call.args[1:]
    if not isinstance(call.args[0], str) or len(operands) != 2:
        return
    terms, _, result = call.args[0].replace(" ", "").partition("->")
    letters = dict(zip(terms.split(","), operands, strict=True)) if len(set(terms.split(","))) == 2 else {}
    for term, mask in letters.items():
        other = next(each for each in letters if each != term)
        places = [letter for letter in term if letter not in other and letter in result]
        tokens = [letter for letter in other if letter in term]  # the order of the tokens is that of the other
        summed = any(letter not in result for letter in tokens)
        experts = [letter for letter in places if mask.shape[term.index(letter)] == decision.num_classes][:1]
        if not (experts and len(places) == 2 and summed and len(tokens) + 2 == len(term)):
            continue
        order = [term.index(letter) for letter in (*tokens, *experts, *(each for each in places if each != experts[0]))]
        if decision.is_selected or not mask.is_floating_point():
            decision.narrow((mask.detach() != 0).permute(order).any(-1).reshape(-1, decision.num_classes))


def _see_scores(decision: Decision, call: Call) -> None:
    """A product with a last dimension of E, before the selection: logits."""
    if (
        not decision.is_selected
        and call.output.is_floating_point()
        and call.output.shape[-1:] == (decision.num_classes,)
    ):
        decision.score(logits=call.output)


def _see_positive(decision: Decision, call: Call) -> None:
    """Scores made positive, before the selection: probabilities, once they are normalized."""
    output = call.output
    if decision.is_selected or output.dim() < 2:
        return
    width, num_classes = output.shape[-1], decision.num_classes
    if width == num_classes:
        decision.score(probabilities=output)
    elif width % num_classes == 0 and output.numel() == decision.num_tokens * width:  # a soft mixture over E·S slots
        decision.score(probabilities=output.detach().reshape(-1, num_classes, width // num_classes).sum(-1))


def _see_squashed(decision: Decision, call: Call) -> None:
    """What is squashed are the logits, scaled as they may have been since they were formed."""
    source = call.argument(0, "input")
    if not decision.is_selected and source.shape[-1:] == (decision.num_classes,):
        decision.score(logits=source)
    _see_positive(decision, call)


def _see_softmax(decision: Decision, call: Call) -> None:
    if call.argument(1, "dim", -1) in (-1, call.output.dim() - 1):
        _see_squashed(decision, call)


SELECTIONS = {
    "topk": _see_topk,
    "argmax": _see_max,
    "max": _see_max,
    "multinomial": _see_draw,
    "sort": _see_sort,
    "argsort": _see_sort,
    "einsum": _see_capacity,
    **dict.fromkeys(("where", "masked_fill", "gather", "take_along_dim"), _see_rewriting),
    **dict.fromkeys(("__getitem__", "index_select", "embedding", "remainder", "__mod__", "fmod"), _see_rewriting),
}
SCORES = {
    **dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "addmm", "bmm", "einsum"), _see_scores),
    "sigmoid": _see_squashed,
    "sqrt": _see_positive,
    "softmax": _see_softmax,
}


def note(decision: Decision, call: Call) -> None:
    """Keep what may be the decision."""
    decision.note(call.name, call.output)


# What is watched where ids alone are counted, and where probabilities are sampled, too.
COUNTING: dict[str, tuple[Handler, ...]] = {name: (handler,) for name, handler in SELECTIONS.items()}
SAMPLING: dict[str, tuple[Handler, ...]] = {
    name: tuple(table[name] for table in (SELECTIONS, SCORES) if name in table) for name in {**SELECTIONS, **SCORES}
}
# What multiplies all experts' weights at once.
PRODUCTS = ("bmm", "baddbmm", "matmul", "__matmul__", "einsum", "grouped_mm", "_grouped_mm")


def noting(table: Mapping[str, tuple[Handler, ...]], names: Iterable[str]) -> dict[str, tuple[Handler, ...]]:
    """A table of handlers that also keeps what the functions of these names return."""
    return {**table, **{name: (*table.get(name, ()), note) for name in names}}
