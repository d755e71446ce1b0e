"""What a training holds in memory at most: measured on a GPU, otherwise counted."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from intensive_callbacks.footprint.memory import tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

__all__ = ["TrainingMemory", "optimizer_bytes", "optimizers_of"]

MAX_SEARCHES = 3


class TrainingMemory:
    """The memory that the training of a model takes, in bytes.

    On the GPU of a single process it is the peak of torch's allocator, with whatever else is on the device. Elsewhere
    it is the sum of resident weights, gradients and optimizer states, sharded tensors at full size: activations are
    not in it.

    Args:
        model: the model that trains; it is not kept alive.
        weights: bytes of its resident weights.

    Example:
        >>> model = torch.nn.Linear(10, 10)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> model(torch.ones(1, 10)).sum().backward()
        >>> optimizer.step()
        >>> TrainingMemory(model, weights=440).num_bytes()  # weights, gradients and momenta of 110 parameters
        1320
    """

    def __init__(self, model: nn.Module, weights: int) -> None:
        self._model, self._weights, self._num_elements = weakref.ref(model), weights, _num_elements(model)
        self._devices = {each.device for each in model.parameters() if each.device.type == "cuda"}
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._num_searches = self._num_states = 0
        self._num_bytes: int | None = None

    def num_bytes(self) -> int | None:
        """Bytes so far, once the optimizer has stepped; ``None`` where they cannot be told.

        Nothing is synchronized. Optimizers are searched for until they are found, a few times at most, since that
        walks over all objects, and their states are counted anew only where there are more of them.
        """
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self._devices and not is_distributed:
            return sum(map(torch.cuda.max_memory_allocated, self._devices))
        model = self._model()
        if model is None:
            return None
        if not self._optimizers and self._num_searches < MAX_SEARCHES:
            self._num_searches += 1
            self._optimizers.update(optimizers_of(model))
        num_states = sum(len(each.state) for each in self._optimizers)
        if num_states != self._num_states or self._num_bytes is None:
            self._num_states, self._num_bytes = num_states, self._counted(model)
        return self._num_bytes

    def _counted(self, model: nn.Module) -> int | None:
        # The first FSDP replaces the parameters by this process's share of them.
        if not self._optimizers or _num_elements(model) != self._num_elements:
            return None
        gradients = sum(tensor_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad)
        return self._weights + gradients + optimizer_bytes(self._optimizers)


def _num_elements(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def optimizers_of(model: nn.Module) -> list[Optimizer]:
    """The torch optimizers that hold parameters of this model.

    A loop need not say which optimizer it steps, and an optimizer leaves no trace on its parameters.
    """
    parameters = set(map(id, model.parameters()))
    return [
        each
        for each in gc.get_objects()
        # isinstance() would ask proxies and mocks for their class.
        if issubclass(type(each), Optimizer)
        and any(id(held) in parameters for group in getattr(each, "param_groups", ()) for held in group["params"])
    ]


def optimizer_bytes(optimizers: Iterable[Optimizer]) -> int:
    """Bytes of the states of optimizers, such as Adam's two moments; nothing before their first step."""
    leaves = (leaf for each in optimizers for state in each.state.values() for leaf in tree_leaves(state))
    # Lightning's wrapper of an optimizer is one itself, with the same states.
    states = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    return sum(map(tensor_bytes, states.values()))
