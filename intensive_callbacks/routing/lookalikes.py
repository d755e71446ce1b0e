"""Modules that look like a mixture of experts, in which no layer was found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from intensive_callbacks.routing.structure import (
    NUM_EXPERTS,
    first_matrix_rows,
    has_word,
    num_alike,
    num_stacked,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from intensive_callbacks.routing.layer import MoELayer

# A class that is called so as a whole: a decoder layer of a mixture, MoeDecoderLayer, may be a dense one.
CALLED_MIXTURE = re.compile(r"(MoE|Moe|MOE|MixtureOf[A-Z]\w*|Experts)(Block|Layer|Module)?$")
DEPTH = ("layer", "block", "stage", "head", "shared", "norm", "embed")  # lists of these are no experts


def lookalikes(model: nn.Module, layers: Sequence[MoELayer]) -> list[tuple[str, str]]:
    """The outermost modules that look like a mixture outside of the layers found: name, and what they look like one by.

    Example:
        >>> class SparseMoE(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.up, self.pick = nn.Linear(8, 32), nn.Linear(8, 4)
        >>> lookalikes(nn.Sequential(SparseMoE(), nn.Linear(8, 8)), [])
        [('0', 'its class is SparseMoE')]
    """
    blocks = {id(layer.block) for layer in layers} | {id(layer.router) for layer in layers}
    return list(_walk(model, "", blocks))


def _walk(module: nn.Module, name: str, blocks: set[int]) -> Iterator[tuple[str, str]]:
    if id(module) in blocks:
        return
    sign = None if any(id(each) in blocks for each in module.modules()) else _sign(module)
    if sign is not None:
        yield name or type(module).__name__, sign
        return
    for child_name, child in module.named_children():
        yield from _walk(child, f"{name}.{child_name}" if name else child_name, blocks)


def _sign(module: nn.Module) -> str | None:
    """What a module looks like a mixture by."""
    if next(module.parameters(), None) is None:
        return None
    if CALLED_MIXTURE.search(type(module).__name__):
        return f"its class is {type(module).__name__}"
    for attribute in NUM_EXPERTS:
        number = vars(module).get(attribute)
        if type(number) is int and number > 1:
            return f"its {attribute} is {number}"
    return _scored_parts(module)


def _scored_parts(module: nn.Module) -> str | None:
    """Equal parts beside a layer with an output for each of them."""
    scored = {
        rows: name for name, child in module.named_children() if type(child) is nn.Linear and (rows := _outputs(child))
    }
    for name, child in module.named_children():
        number = num_alike(child) if isinstance(child, nn.ModuleList) else num_stacked(child)
        if number in scored and not has_word(name, DEPTH) and scored[number] != name:
            return f"{name!r} has {number} equal parts, and {scored[number]!r} as many outputs"
    return None


def _outputs(linear: nn.Module) -> int:
    return first_matrix_rows(linear) or 0
