"""Running a model on the side, so that nobody can tell afterwards."""
# ruff: noqa: SLF001 - hooks and buffers of a module are listed nowhere else

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Modes, buffers, hooks and random states are afterwards as they were before."""
    training = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    tables = [table for module in model.modules() for table in (module._forward_hooks, module._forward_pre_hooks)]
    hooks = [(table, set(table)) for table in tables]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    try:
        with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
            yield
    finally:
        for module, mode in training:
            module.training = mode
        for table, known in hooks:  # a trace that fails leaves its own behind
            for key in set(table) - known:
                del table[key]
        for module, named in buffers:  # a forward may register others in their place
            module._buffers.clear()
            module._buffers.update(named)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


@contextmanager
def on_the_side(model: nn.Module) -> Iterator[None]:
    """An eager forward pass as in inference: eval mode, no gradients; the model is left as it was."""
    with preserved(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        model.eval()
        yield
