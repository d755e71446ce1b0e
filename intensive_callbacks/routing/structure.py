"""What names, attributes and shapes tell of a single module: whether it is a router, and how many experts it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

from intensive_callbacks.routing.edge import attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.nn import Parameter

ROUTER_WORDS = ("router", "gate", "gating", "routing", "classifier", "switch")
# Projections of gated feed-forward networks, and gates that weigh a shared expert.
NOT_ROUTERS = ("gate_proj", "gate_up", "shared", "gated", "switch_mlp")
NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "n_experts")
NUM_OUTPUTS = ("out_features", "outfeatures")
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


def positive_attribute(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first of the attributes ``names`` that a module, or the config it keeps, has as a positive int."""
    for holder in (module, attribute(module, "config"), attribute(module, "args")):
        for name in names:
            value = attribute(holder, name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def first_matrix_rows(module: nn.Module) -> int | None:
    """The rows of a module's first matrix: what a scoring module scores."""
    matrices = (p for p in module.parameters() if not is_lazy(p) and p.dim() == 2)
    return next((matrix.shape[0] for matrix in matrices), num_outputs(module))


def own_parameters(module: nn.Module) -> Iterator[tuple[str, Parameter]]:
    """The parameters of a module itself whose shape is known."""
    return ((name, p) for name, p in module.named_parameters(recurse=False) if not is_lazy(p))


def weights_of(module: nn.Module) -> list[Tensor]:
    """The parameters of a module and its children; of a quantized one, which may have none, the buffers."""
    parameters = list(module.parameters())
    return list(parameters or (b for b in module.buffers() if b.dim() >= 2))


def num_outputs(module: nn.Module) -> int | None:
    """The classes of a quantized layer without parameters, whose buffers do not have the shape of its matrix."""
    if next(module.parameters(), None) is not None or next(module.buffers(), None) is None:
        return None
    return positive_attribute(module, NUM_OUTPUTS)


def has_word(text: str, words: tuple[str, ...]) -> bool:
    """Whether a text has one of the words in it."""
    return any(word in text.lower() for word in words)


def is_expert_like(name: str, module: nn.Module) -> bool:
    """Whether a module is called an expert or experts that are not shared."""
    name, kind = name.lower(), type(module).__name__.lower()
    if "expert" in name:
        return "shared" not in name
    return "expert" in kind and "shared" not in kind and "shared" not in name


def is_router_like(name: str, module: nn.Module | None) -> bool:
    """Whether a module, or a parameter of this name, is called a router."""
    kind = type(module).__name__ if module is not None else ""
    return (has_word(name, ROUTER_WORDS) or has_word(kind, ROUTER_WORDS[:4])) and not has_word(name, NOT_ROUTERS)


def num_alike(module: nn.Module) -> int | None:
    """How many children a list of equal modules has."""
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return None
    children = [(child, weights) for child in module.children() if (weights := weights_of(child))]
    shapes = {(type(child), tuple(None if is_lazy(w) else w.shape for w in weights)) for child, weights in children}
    return len(children) if len(children) > 1 and len(shapes) == 1 else None


def num_unequal(name: str, module: nn.Module) -> int | None:
    """How many children a list has that is called the experts, whatever their sizes."""
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict)) or not name.lower().endswith("experts"):
        return None
    children = [child for child in module.children() if weights_of(child)]
    # A dict of what all experts share a step of, such as {"up": ..., "down": ...}, has tensors of all experts.
    stacked = any(num_stacked(child) or isinstance(child, (nn.ModuleList, nn.ModuleDict)) for child in children)
    return len(children) if len(children) > 1 and not stacked else None


def num_stacked(module: nn.Module) -> int | None:
    """The common leading dimension of a module's own parameters of three dimensions: experts in one tensor."""
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Bilinear)):  # noqa: SLF001 - no public base of convolutions
        return None
    sizes = [parameter.shape[0] for _, parameter in own_parameters(module) if parameter.dim() >= 3]
    # Zero-compute experts may have been given weights: the least is what computes.
    return min(sizes) if sizes and min(sizes) > 1 else None


def _num_packed(module: nn.Module) -> int | None:
    """The common leading dimension of quantized weights of all experts, which are buffers alone."""
    if next(module.parameters(), None) is not None:
        return None
    sizes = {buffer.shape[0] for buffer in module.buffers(recurse=False) if buffer.dim() >= 3}
    return sizes.pop() if len(sizes) == 1 else None


def num_experts_of(name: str, module: nn.Module) -> int | None:
    """How many experts a module holds, if it is what holds them; 0 if only its router can tell."""
    if not is_expert_like(name, module):
        return None
    num_experts = num_alike(module) or num_stacked(module) or num_unequal(name, module) or _num_packed(module)
    if num_experts or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return num_experts
    if not name.lower().endswith("experts") or any(is_router_like(child, m) for child, m in module.named_children()):
        return None
    deeper = (num_experts_of(child, m) for child, m in module.named_modules() if child)
    stacked = next((number for number in deeper if number), None)
    return stacked or positive_attribute(module, NUM_EXPERTS) or 0


def belongs_to_experts(path: str, module: nn.Module, num_experts: int) -> bool:
    """Whether a module is named for the experts, and is not a matrix that scores them, such as a router's keys."""
    *outer, name = path.split(".")
    if "expert" not in name.lower():
        return False
    in_router = any(has_word(segment, ROUTER_WORDS) for segment in outer)
    scores = (isinstance(module, (nn.Linear, nn.Embedding)) or num_outputs(module)) and first_matrix_rows(
        module
    ) == num_experts
    return not (scores and (in_router or not outer))
