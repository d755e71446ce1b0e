"""Which parameters are embeddings and heads, and weights that are kept outside of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from intensive_callbacks.boundary import Boundary


def embeddings(model: nn.Module, boundary: Boundary) -> tuple[set[int], set[int]]:
    """Parameters of the table that looks tokens up and of the head that scores them.

    transformers' models say which these are; of others every ``nn.Embedding`` is a look-up and every linear layer as
    wide as one of them has entries is a head.
    """

    def ask(module: nn.Module, method: str) -> nn.Module | None:
        if not _has_method(module, method):
            return None
        answer = boundary.call(f"{method}() of {type(module).__name__}", _answer, module, method)
        return answer if isinstance(answer, nn.Module) else None

    asked = ((module, ask(module, "get_input_embeddings")) for module in model.modules())
    owner, inputs = next(((module, answer) for module, answer in asked if answer is not None), (model, None))
    # What a vision model calls its input embedding is a projection of patches, which multiplies like any layer.
    tables = [m for m in (inputs or model).modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    if inputs is not None:
        return _parameters_of(*tables), _parameters_of(ask(owner, "get_output_embeddings"))
    widths = {table.num_embeddings for table in tables}
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features in widths]
    return _parameters_of(*tables), _parameters_of(*heads)


def _has_method(module: nn.Module, method: str) -> bool:
    # Looked up on the class: a property of the module would run code that may raise.
    return callable(getattr(type(module), method, None))


def _answer(module: nn.Module, method: str) -> Any:
    try:
        return getattr(module, method)()
    except NotImplementedError:  # transformers' way to say that there is none
        return None


def _parameters_of(*modules: nn.Module | None) -> set[int]:
    return {id(parameter) for module in modules if module is not None for parameter in module.parameters()}


def packed_weights(model: nn.Module) -> list[Tensor]:
    """Weights and biases that torch.ao's quantized layers keep packed, which are no parameters."""
    holders: list[Any] = [module for module in model.modules() if _has_method(module, "_weight_bias")]
    leaves = [holder for holder in holders if not any(_has_method(m, "_weight_bias") for m in holder.children())]
    return [tensor for leaf in leaves for tensor in leaf._weight_bias() if tensor is not None]  # noqa: SLF001 - no other way
