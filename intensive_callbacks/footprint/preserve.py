"""Running a model on the side, so that nobody can tell afterwards."""
# ruff: noqa: SLF001 - hooks are listed nowhere else

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def on_the_side(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients and no compilation inside; modes, buffers, hooks and random states as before after it."""
    training = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    hooks = [
        (table, set(table))
        for module in model.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks)
    ]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    cuda = [device for device in devices if device.type == "cuda"]
    try:
        with torch.random.fork_rng(cuda), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            model.eval()
            yield
    finally:
        for module, mode in training:
            module.training = mode
        for table, known in hooks:  # a trace that fails leaves its own behind
            for key in set(table) - known:
                del table[key]
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
