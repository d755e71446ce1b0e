"""Which parameters are embeddings and heads, and which adapters are idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from intensive_callbacks.boundary import Boundary


def embeddings(model: nn.Module, boundary: Boundary) -> tuple[list[nn.Module], list[nn.Module]]:
    """The input embeddings and the output heads of a model.

    Models of transformers name them. In other models every ``nn.Embedding`` is an input embedding, and every linear
    layer with as many outputs as one of them has entries is a head.
    """

    def ask(module: nn.Module, method: str) -> nn.Module | None:
        if not _has_method(module, method):
            return None
        answer = boundary.call(f"{method}() of {type(module).__name__}", _answer, module, method)
        return answer if isinstance(answer, nn.Module) else None

    asked = ((module, ask(module, "get_input_embeddings")) for module in model.modules())
    owner, inputs = next(((module, answer) for module, answer in asked if answer is not None), (model, None))
    # What a vision model calls its input embedding is a projection of patches, which multiplies like any layer.
    tables: list[nn.Module] = [m for m in (inputs or model).modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    if inputs is not None:
        head = ask(owner, "get_output_embeddings")
        return tables, [] if head is None else [head]
    widths = {getattr(table, "num_embeddings", None) for table in tables}
    heads: list[nn.Module] = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features in widths]
    return tables, heads


def _has_method(module: nn.Module, method: str) -> bool:
    # Looked up on the class: a property of the module would run code that may raise.
    return callable(getattr(type(module), method, None))


def _answer(module: nn.Module, method: str) -> Any:
    try:
        return getattr(module, method)()
    except NotImplementedError:  # transformers' way to say that there is none
        return None


def idle_adapters(model: nn.Module) -> list[nn.Module]:
    """Modules of PEFT that take no part in the forward pass.

    These are the original of a module in ``modules_to_save`` where its copy is in use, copies and adapters that are not
    active, and adapters that are disabled or merged into the weights.
    """
    idle: list[nn.Module] = []
    for module in model.modules():
        adapters = getattr(type(module), "adapter_layer_names", ())
        active, disabled = vars(module).get("_active_adapter"), vars(module).get("_disable_adapters", False)
        if not adapters or active is None:
            continue
        merged = vars(module).get("merged_adapters", ())
        names = {active} if isinstance(active, str) else set(active)
        in_use = set() if disabled or merged else names
        held = [child for name in adapters if isinstance(child := module._modules.get(name), nn.ModuleDict)]  # noqa: SLF001 - a plain attribute may have the name
        idle += [adapter for each in held for name, adapter in each.items() if name not in in_use]
        copies, original = module._modules.get("modules_to_save"), module._modules.get("original_module")  # noqa: SLF001 - the same
        if isinstance(copies, nn.ModuleDict) and original is not None and in_use & copies.keys():
            idle.append(original)
    return idle
