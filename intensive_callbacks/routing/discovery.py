"""Where the routers of a model are: found by structure alone, so that a model on the meta device will do."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parameter import is_lazy

from intensive_callbacks.routing.edge import attribute
from intensive_callbacks.routing.readers import registered_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch.nn import Parameter

ROUTER_WORDS = ("router", "gate", "gating", "routing", "classifier", "switch")
# Projections of gated feed-forward networks, and gates that weigh a shared expert.
NOT_ROUTERS = ("gate_proj", "gate_up", "shared", "gated", "switch_mlp")
NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "n_experts")
NUM_SHARED = ("n_shared_experts", "num_shared_experts", "n_shared", "num_shared")
NUM_SELECTED = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "top_k",
    "topk",
    "moe_top_k",
    "moe_topk",
    "top_k_experts",
    "num_selected_experts",
    "k",
)
# Of a model around the layer only what names experts counts: it may keep the k of a recall@k, or a top_k for sampling.
NUM_SELECTED_AROUND = tuple(name for name in NUM_SELECTED if "expert" in name or "moe" in name)


@dataclass(frozen=True, eq=False)
class MoELayer:
    """One mixture of experts in a model.

    Attributes:
        name: the qualified name of ``block``, or of the module that the user's pattern matched.
        block: the module that holds router and experts.
        router: the module that scores the experts; ``None`` where the block does it with its own parameters or a table.
        experts: the modules that hold the experts' parameters; empty where these are parameters of ``block`` itself.
        num_experts: E, the routed experts; shared experts are not counted.
        num_experts_per_token: k by design, where the model or its config says so.
        num_zero_experts: further classes of the router, which compute nothing.
    """

    name: str
    block: nn.Module
    router: nn.Module | None
    experts: tuple[nn.Module, ...]
    num_experts: int
    num_experts_per_token: int | None = None
    num_zero_experts: int = 0

    @property
    def num_classes(self) -> int:
        """The classes of the router: the experts, and those that compute nothing."""
        return self.num_experts + self.num_zero_experts

    def expert_parameters(self) -> list[Parameter]:
        """The parameters of the routed experts."""
        if self.experts:
            return [parameter for module in self.experts for parameter in module.parameters()]
        own = _own_parameters(self.block)
        return [parameter for _, parameter in own if parameter.dim() >= 3 and parameter.shape[0] == self.num_experts]

    def router_parameters(self) -> list[Parameter]:
        """The parameters that score the experts."""
        if self.router is not None:
            return list(self.router.parameters())
        routed = {id(parameter) for parameter in self.expert_parameters()}
        own = (parameter for _, parameter in _own_parameters(self.block))
        return [p for p in own if id(p) not in routed and p.dim() >= 2 and self.num_experts in p.shape]


def discover(model: nn.Module, routers: str | Mapping[str, Callable[..., Any]] | None = "auto") -> list[MoELayer]:
    """The mixtures of experts of a model, in the order of its modules.

    Args:
        model: any module; only names, attributes and shapes are looked at.
        routers: ``"auto"``: all that are found; a pattern such as ``"layers.*.mlp"``: those of them whose name, or
            whose router's name, matches; a mapping from patterns to readers: every module that matches one of them is
            a layer; ``None``: none.

    Raises:
        ValueError: if a pattern matches nothing, or it matches a module that does not tell its number of experts.

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.gate = nn.Linear(16, 4)
        ...         self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        >>> [(layer.name, layer.num_experts) for layer in discover(nn.Sequential(Block(), Block()))]
        [('0', 4), ('1', 4)]
    """
    return [] if routers is None else select_layers(model, find_layers(model), routers)


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


def select_layers(
    model: nn.Module, found: list[MoELayer], routers: str | Mapping[str, Callable[..., Any]] | None
) -> list[MoELayer]:
    """Those of the layers found that the user asks for, as :func:`discover` takes them."""
    if routers is None:
        return []
    layers = {layer.name: layer for layer in found}
    names = {id(module): name for name, module in model.named_modules()}
    if routers == "auto":
        taken = {id(module) for layer in found for module in (layer.block, layer.router)}
        own = {name: None for name, m in model.named_modules() if registered_reader(m) and id(m) not in taken}
        return [*found, *_matched(model, own, [])]
    if isinstance(routers, str):
        chosen = [
            layer
            for layer in found
            if fnmatchcase(layer.name, routers) or fnmatchcase(names.get(id(layer.router), ""), routers)
        ]
        if not chosen:
            raise ValueError(f"no router matches routers={routers!r}; found were {sorted(layers)}")
        return chosen
    return _matched(model, routers, found)


def _matched(model: nn.Module, routers: Mapping[str, Any], found: list[MoELayer]) -> list[MoELayer]:
    """A layer for each module that a pattern names, with what the search knows of it."""
    known = {id(module): layer for layer in found for module in (layer.block, layer.router) if module is not None}
    chosen = []
    for pattern in routers:
        matches = [(name, module) for name, module in model.named_modules() if fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"no module matches the pattern {pattern!r} of routers; see model.named_modules()")
        for name, module in matches:
            layer = known.get(id(module))
            num_experts = layer.num_experts if layer else _attribute(module, NUM_EXPERTS) or _rows(module)
            if num_experts is None:
                raise ValueError(f"{name} does not tell its number of experts; give the module an int num_experts")
            chosen.append(
                MoELayer(
                    name,
                    module,
                    module,
                    layer.experts if layer else (),
                    num_experts,
                    layer.num_experts_per_token if layer else _attribute(module, NUM_SELECTED),
                    layer.num_zero_experts if layer else 0,
                )
            )
    return chosen


def _attribute(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first of the attributes ``names`` that a module, or the config it keeps, has as a positive int."""
    for holder in (module, attribute(module, "config"), attribute(module, "args")):
        for name in names:
            value = attribute(holder, name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _rows(module: nn.Module) -> int | None:
    """The rows of a module's first matrix: what a scoring module scores."""
    matrices = (p for p in module.parameters() if not is_lazy(p) and p.dim() == 2)
    return next((matrix.shape[0] for matrix in matrices), None)


def _own_parameters(module: nn.Module) -> Iterator[tuple[str, Parameter]]:
    """The parameters of a module itself whose shape is known."""
    return ((name, p) for name, p in module.named_parameters(recurse=False) if not is_lazy(p))


def _has_word(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text.lower() for word in words)


def _is_expert_like(name: str, module: nn.Module) -> bool:
    name, kind = name.lower(), type(module).__name__.lower()
    if "expert" in name:
        return "shared" not in name
    return "expert" in kind and "shared" not in kind and "shared" not in name


def _is_router_like(name: str, module: nn.Module | None) -> bool:
    kind = type(module).__name__ if module is not None else ""
    return (_has_word(name, ROUTER_WORDS) or _has_word(kind, ROUTER_WORDS[:4])) and not _has_word(name, NOT_ROUTERS)


def _num_alike(module: nn.Module) -> int | None:
    """How many children a list of equal modules has."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict)) or len(children) < 2:
        return None
    shapes = {(type(child), tuple(None if is_lazy(p) else p.shape for p in child.parameters())) for child in children}
    return len(children) if len(shapes) == 1 else None


def _num_unequal(name: str, module: nn.Module) -> int | None:
    """How many children a list has that is called the experts, whatever their sizes."""
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict)) or not name.lower().endswith("experts"):
        return None
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    # A dict of what all experts share a step of, such as {"up": ..., "down": ...}, has tensors of all experts.
    stacked = any(_num_stacked(child) or isinstance(child, (nn.ModuleList, nn.ModuleDict)) for child in children)
    return len(children) if len(children) > 1 and not stacked else None


def _num_stacked(module: nn.Module) -> int | None:
    """The common leading dimension of a module's own parameters of three dimensions: experts in one tensor."""
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Bilinear)):  # noqa: SLF001 - no public base of convolutions
        return None
    sizes = [parameter.shape[0] for _, parameter in _own_parameters(module) if parameter.dim() >= 3]
    # Zero-compute experts may have been given weights: the least is what computes.
    return min(sizes) if sizes and min(sizes) > 1 else None


def _num_experts(name: str, module: nn.Module) -> int | None:
    """How many experts a module holds, if it is what holds them; 0 if only its router can tell."""
    if not _is_expert_like(name, module):
        return None
    num_experts = _num_alike(module) or _num_stacked(module) or _num_unequal(name, module)
    if num_experts or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return num_experts
    if not name.lower().endswith("experts") or any(_is_router_like(child, m) for child, m in module.named_children()):
        return None
    deeper = (_num_experts(child, m) for child, m in module.named_modules() if child)
    stacked = next((number for number in deeper if number), None)
    return stacked or _attribute(module, NUM_EXPERTS) or 0


_Found = tuple[str, nn.Module, "nn.Module | None", "tuple[nn.Module, ...]", int, int]


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
    num_experts = _num_experts(child_name, child)
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
            shared = extra == _attribute(module or block, NUM_SHARED)
            yield name, block, module, (experts,), num_experts or width, 0 if shared else extra
            return
    if num_experts:  # a table or a hash assigns the tokens
        name, block = ancestors[-1]
        yield name, block, None, (experts,), num_experts, 0


def _unnamed(block: nn.Module, name: str, child_name: str, child: nn.Module) -> Iterator[_Found]:
    """A list of equal modules under another name, beside something called a gate or router of its length."""
    number = _num_alike(child)
    if number is None or _has_word(child_name, ("layer", "block", "shared")):
        return
    for sibling_name, sibling in block.named_children():
        named = _has_word(sibling_name, ROUTER_WORDS[:4]) and not _has_word(sibling_name, NOT_ROUTERS)
        if sibling is not child and named and _rows(sibling) == number:
            yield name, block, sibling, (child,), number, 0


def _inside_block(block: nn.Module, name: str) -> Iterator[_Found]:
    """Experts that are parameters, or embeddings, of the block itself."""
    number = _num_stacked(block)
    if number:
        router = _find_router(block, None, number)
        if router is not None:
            yield name, block, router[0], (), number, router[1] - number
        return
    number = _attribute(block, NUM_EXPERTS[:4])
    tables = tuple(m for m in block.children() if isinstance(m, nn.Embedding) and m.num_embeddings == number)
    routers = [m for child, m in block.named_children() if _is_router_like(child, m)]
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
        if id(module) in skipped or _has_word(path, NOT_ROUTERS) or _belongs_to_experts(path, module, num_experts):
            continue
        if beyond and path and not _has_word(path.partition(".")[0], ROUTER_WORDS):
            continue
        named = _is_router_like(path, module)
        for parameter_name, parameter in _own_parameters(module):
            if parameter.dim() != 2:
                continue
            direct = isinstance(module, (nn.Linear, nn.Embedding)) or parameter_name == "weight"
            hinted = named or _has_word(parameter_name, ROUTER_WORDS)
            sizes = parameter.shape[:1] if direct else parameter.shape
            exact = num_experts in sizes
            if (exact and (hinted or module is block or "." not in path)) or (hinted and sizes[0] > num_experts):
                depth = path.count(".")
                candidates.append(((not exact, not hinted, sizes[0], depth), path, num_experts if exact else sizes[0]))
    if not candidates:
        return None
    _, path, width = min(candidates)
    return _outermost(block, path), width


def _belongs_to_experts(path: str, module: nn.Module, num_experts: int) -> bool:
    """Whether a module is named for the experts, and is not a matrix that scores them, such as a router's keys."""
    *outer, name = path.split(".")
    if "expert" not in name.lower():
        return False
    in_router = any(_has_word(segment, ROUTER_WORDS) for segment in outer)
    scores = isinstance(module, (nn.Linear, nn.Embedding)) and _rows(module) == num_experts
    return not (scores and (in_router or not outer))


def _outermost(block: nn.Module, path: str) -> nn.Module | None:
    """The whole router on the way to its matrix: the topmost module called one, lists left out."""
    if not path:
        return None
    module, best = block, None
    for segment in path.split("."):
        module = getattr(module, segment)
        if best is None and _is_router_like(segment, module) and not isinstance(module, nn.ModuleList):
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
    selected = [*(_attribute(module, NUM_SELECTED) for module in holders), _attribute(model, NUM_SELECTED_AROUND)]
    top_k = next((k for k in selected if k is not None and k <= number + zero), None)
    return MoELayer(name, block, router, experts, number, top_k, zero)
