"""Run an extra forward pass without side effects."""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.parameter import is_lazy as is_lazy_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def is_lazy(model: nn.Module) -> bool:
    """Whether the first forward pass creates some of the model's parameters or buffers."""
    return any(map(is_lazy_tensor, chain(model.parameters(), model.buffers())))


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore modes, buffers, hooks, attributes and random states afterwards.

    Of attributes that are lists, dicts and sets the contents, too. What a forward changes elsewhere stays changed.

    Raises:
        ValueError: if the model has lazy parameters, whose creation cannot be undone.
    """
    if is_lazy(model):
        raise ValueError("the model has lazy parameters; run one batch through it, which creates them, and call again")
    # Hooks, buffers and modes are attributes of a module as others are.
    attributes = [(vars(module), dict(vars(module))) for module in model.modules()]
    held = [value for _, known in attributes for value in known.values()]
    containers = [(value, _contents(value)) for value in held if isinstance(value, (list, dict, set))]
    tensors = [*model.buffers(), *(value for value in held if isinstance(value, Tensor))]
    values = [(tensor, tensor.detach().clone()) for tensor in tensors if not tensor.is_inference()]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # what has no parameters draws there as well
        devices.add(torch.device("cuda", torch.cuda.current_device()))
    with _random_states(devices), ExitStack() as versions:
        for tensor, _ in values:  # a graph being built may have saved it; its value is restored
            versions.enter_context(_unsafe_preserve_version_counter(tensor))
        try:
            yield
        finally:
            for table, known in attributes:
                for name in set(table) - set(known):
                    del table[name]
                table.update(known)
            for container, contents in containers:
                container.clear()
                if isinstance(container, list):
                    container.extend(contents)
                else:
                    container.update(contents)
            with torch.no_grad():
                for tensor, value in values:
                    tensor.copy_(value)


def _contents(container: Any) -> list[Any]:
    return list(container.items()) if isinstance(container, dict) else list(container)


@contextmanager
def _random_states(devices: set[torch.device]) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that layers draw from
    try:
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - the same


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """An eager forward pass without gradients, even in the middle of another; the model is left as it was."""
    caches = torch.is_autocast_cache_enabled()
    with preserved(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        # Older versions of torch keep a weight that was cast here, without gradient, for the training that goes on in
        # the same autocast (pytorch/pytorch#112583).
        torch.set_autocast_cache_enabled(False)
        try:
            yield
        finally:
            torch.set_autocast_cache_enabled(caches)


@contextmanager
def on_the_side(model: nn.Module) -> Iterator[None]:
    """An eager forward pass as in inference: eval mode, no gradients; the model is left as it was."""
    with uncompiled(model):
        model.eval()
        yield
