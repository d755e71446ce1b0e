"""Which processes work on the same batch: under tensor, context and pipeline parallelism, as the device mesh says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

# How names of a mesh's dimensions begin along which every process has the same tokens.
OF_TOKENS = ("tp", "tensor", "model", "mp")
# The same for those along which a batch is split after the loop has given it: by its length, or by the layers.
OF_BATCH = (*OF_TOKENS, "cp", "context", "sp", "seq", "pp", "pipe", "stage")


@dataclass(frozen=True)
class Share:
    """Which of the processes that work on the same batch this one is.

    Attributes:
        index: its number among them.
        size: how many they are.
        repeats_tokens: whether its routers see the tokens that those of another process count already.
    """

    index: int = 0
    size: int = 1
    repeats_tokens: bool = False


ALONE = Share()


def share_of(model: nn.Module, expert_parameters: Iterable[Any] = ()) -> Share:
    """Which of the processes that share a batch this one is, from the device meshes of a model's parameters.

    A batch is shared along dimensions of a mesh whose names say so (``tp``, ``cp``, ``pp``, ``tensor_parallel``, ...),
    and along one without a name, unless FSDP or only the experts are sharded along it.

    Example:
        >>> from torch import nn
        >>> share_of(nn.Linear(2, 2))
        Share(index=0, size=1, repeats_tokens=False)
    """
    of_experts = {id(parameter) for parameter in expert_parameters}
    by_fsdp = any(hasattr(module, "_get_fsdp_state") for module in model.modules())
    dimensions: dict[Any, tuple[int, int, bool]] = {}
    for parameter in model.parameters():
        mesh = getattr(parameter, "device_mesh", None)
        if mesh is not None:
            for name, place, size in _dimensions(mesh):
                is_unnamed_data = by_fsdp or id(parameter) in of_experts
                if not is_unnamed_data if name is None else name.lower().startswith(OF_BATCH):
                    dimensions[name] = place, size, name is None or name.lower().startswith(OF_TOKENS)
    index, size, repeats = 0, 1, False
    for place, length, same_tokens in (dimensions[name] for name in sorted(dimensions, key=str)):
        index, size = index * length + place, size * length
        repeats = repeats or (same_tokens and place > 0)
    return Share(index, size, repeats)


def _dimensions(mesh: Any) -> Iterator[tuple[str | None, int, int]]:
    """Name, this process's place and length of each dimension of a mesh, and of the mesh that it was cut from."""
    root = mesh._get_root_mesh()  # noqa: SLF001 - there is no public way to the whole mesh
    for each in {id(mesh): mesh, id(root): root}.values():
        names = each.mesh_dim_names or (None,) * each.ndim
        for number, name in enumerate(names):
            yield name, each.get_local_rank(number), each.size(number)
