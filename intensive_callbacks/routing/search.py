"""The search for the mixtures of experts of a model, by structure alone: a model on the meta device will do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from intensive_callbacks.routing.layer import MoELayer
from intensive_callbacks.routing.structure import (
    NOT_ROUTERS,
    NUM_EXPERTS,
    NUM_SELECTED,
    NUM_SELECTED_AROUND,
    NUM_SHARED,
    ROUTER_WORDS,
    belongs_to_experts,
    first_matrix_rows,
    has_word,
    is_router_like,
    num_alike,
    num_experts_of,
    num_outputs,
    num_stacked,
    own_parameters,
    positive_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# name, block, router, experts, E, zero-compute experts
_Found = tuple[str, nn.Module, "nn.Module | None", "tuple[nn.Module, ...]", int, int]


def _call(_part: str, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def find_layers(model: nn.Module, call: Callable[..., Any] = _call) -> list[MoELayer]:
    """All mixtures of experts that the structure of a model shows.

    Args:
        model: any module.
        call: ``call(part, function, *args)`` calls the function for one part of the model; one that catches what it
            raises and returns ``None`` makes this part a part without layers.
    """
    found = _walk(model, "", (), call)
    finished = (call(f"finding the router of {each[0]!r}", _finish, model, each) for each in _merge(found))
    return [layer for layer in finished if layer is not None]


def _walk(
    module: nn.Module, name: str, ancestors: tuple[tuple[str, nn.Module], ...], call: Callable[..., Any]
) -> list[_Found]:
    """Every holder of experts with its block and router, depth first."""
    found: list[_Found] = []
    own = (*ancestors, (name, module))
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        found += call(f"finding the routers of {path!r}", _search, own, child_name, child, path, call) or []
    return found or list(_inside_block(module, name))


def _search(
    ancestors: tuple[tuple[str, nn.Module], ...],
    child_name: str,
    child: nn.Module,
    path: str,
    call: Callable[..., Any],
) -> list[_Found]:
    """What one child holds, or what is below it."""
    num_experts = num_experts_of(child_name, child)
    if num_experts is not None:
        return list(_with_router(ancestors, child, num_experts))
    name, module = ancestors[-1]
    return list(_unnamed(module, name, child_name, child)) or _walk(child, path, ancestors, call)


def _with_router(
    ancestors: tuple[tuple[str, nn.Module], ...], experts: nn.Module, num_experts: int
) -> Iterator[_Found]:
    for distance, (name, block) in enumerate(ancestors[:-4:-1]):
        router = _find_router(block, experts, num_experts, beyond=distance > 0)
        if router is not None:
            module, width = router
            extra = width - num_experts if num_experts else 0
            # A router may also weigh the shared experts, which every token has.
            shared = extra == positive_attribute(module or block, NUM_SHARED)
            yield name, block, module, (experts,), num_experts or width, 0 if shared else extra
            return
    if num_experts:  # a table or a hash assigns the tokens
        name, block = ancestors[-1]
        yield name, block, None, (experts,), num_experts, 0


def _unnamed(block: nn.Module, name: str, child_name: str, child: nn.Module) -> Iterator[_Found]:
    """A list of equal modules under another name, beside something called a gate or router of its length."""
    number = num_alike(child)
    if number is None or has_word(child_name, ("layer", "block", "shared")):
        return
    for sibling_name, sibling in block.named_children():
        named = has_word(sibling_name, ROUTER_WORDS[:4]) and not has_word(sibling_name, NOT_ROUTERS)
        if sibling is not child and named and first_matrix_rows(sibling) == number:
            yield name, block, sibling, (child,), number, 0


def _inside_block(block: nn.Module, name: str) -> Iterator[_Found]:
    """Experts that are parameters, or embeddings, of the block itself."""
    number = num_stacked(block)
    if number:
        router = _find_router(block, None, number)
        if router is not None:
            yield name, block, router[0], (), number, router[1] - number
        return
    number = positive_attribute(block, NUM_EXPERTS[:4])
    tables = tuple(m for m in block.children() if isinstance(m, nn.Embedding) and m.num_embeddings == number)
    routers = [m for child, m in block.named_children() if is_router_like(child, m)]
    if number and tables and routers:
        yield name, block, routers[0], tables, number, 0


def _find_router(
    block: nn.Module, experts: nn.Module | None, num_experts: int, *, beyond: bool = False
) -> tuple[nn.Module | None, int] | None:
    """The router of a block and the number of its classes: exactly E, or more if it is called a router.

    ``beyond`` the module that has the experts, a router is taken only if its place in the block is called one: what
    else is there may have experts and a router of its own.
    """
    candidates = []
    skipped = {id(m) for m in experts.modules()} if experts is not None else set()
    for path, module in block.named_modules():
        if id(module) in skipped or has_word(path, NOT_ROUTERS) or belongs_to_experts(path, module, num_experts):
            continue
        if beyond and path and not has_word(path.partition(".")[0], ROUTER_WORDS):
            continue
        named = is_router_like(path, module)
        if named and path and (number := num_outputs(module)) and number >= num_experts:
            candidates.append(((number != num_experts, False, number, path.count(".")), path, number))
        for parameter_name, parameter in own_parameters(module):
            if parameter.dim() != 2:
                continue
            direct = isinstance(module, (nn.Linear, nn.Embedding)) or parameter_name == "weight"
            hinted = named or has_word(parameter_name, ROUTER_WORDS)
            sizes = parameter.shape[:1] if direct else parameter.shape
            exact = num_experts in sizes
            if (exact and (hinted or module is block or "." not in path)) or (hinted and sizes[0] > num_experts):
                depth = path.count(".")
                candidates.append(((not exact, not hinted, sizes[0], depth), path, num_experts if exact else sizes[0]))
    if not candidates:
        return None
    _, path, width = min(candidates)
    return _outermost(block, path), width


def _outermost(block: nn.Module, path: str) -> nn.Module | None:
    """The whole router on the way to its matrix: the topmost module called one, lists left out."""
    if not path:
        return None
    module, best = block, None
    for segment in path.split("."):
        module = getattr(module, segment)
        if best is None and is_router_like(segment, module) and not isinstance(module, nn.ModuleList):
            best = module
    return best or module


def _merge(found: list[_Found]) -> list[_Found]:
    """Several holders of one block's experts are one layer."""
    merged: dict[int, _Found] = {}
    for name, block, router, experts, number, zero in found:
        earlier = merged.get(id(block))
        if earlier is not None and earlier[4] == number:  # also a block that has two names
            known = {id(module) for module in earlier[3]}
            together = (*earlier[3], *(module for module in experts if id(module) not in known))
            merged[id(block)] = (earlier[0], block, router, together, number, zero)
        else:
            merged[id(block)] = (name, block, router, experts, number, zero)
    return list(merged.values())


def _finish(model: nn.Module, found: _Found) -> MoELayer:
    name, block, router, experts, number, zero = found
    holders = [module for module in (router, block, *experts) if module is not None]
    selected = [
        *(positive_attribute(module, NUM_SELECTED) for module in holders),
        positive_attribute(model, NUM_SELECTED_AROUND),
    ]
    top_k = next((k for k in selected if k is not None and k <= number + zero), None)
    return MoELayer(name, block, router, experts, number, top_k, zero)
