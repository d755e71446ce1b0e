"""Squared gradient norms over two batch sizes, at no extra backward pass: what the critical batch size is fed with."""

# DDP compares a hook's annotations with the types themselves, so they must not be postponed to strings here.

import torch
from torch import Tensor, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined] # torch leaves it out of its __all__
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class GradientNorms:
    """The squared norms of a process's own gradient and of the average over all processes, under DDP.

    After a backward pass ``.grad`` already is the average, so the own gradient is taken in a communication hook, just
    before the all-reduce. The hook adds one number to a tensor on the device and waits for nothing. With accumulation
    it sees the last of the backward passes, whose buckets hold what was accumulated. A model has one communication
    hook: one that has another (PowerSGD, say) refuses this.

    Args:
        model: the wrapped model.

    Raises:
        RuntimeError: from torch, if the model has a communication hook.

    Example::

        norms = GradientNorms(ddp_model)
        noise_scale = CriticalBatchSize(small_batch_size=32, large_batch_size=32 * world_size)
        loss.backward()
        noise_scale.update(*norms.read())  # before the optimizer's step, and before gradients are clipped
    """

    def __init__(self, model: DistributedDataParallel) -> None:
        self.model = model
        self.own: Tensor | None = None
        model.register_comm_hook(self, _measure_and_reduce)

    def read(self) -> tuple[Tensor, Tensor]:
        """The squared norms of this backward pass, own and average; begins anew.

        Raises:
            RuntimeError: if no gradient has been reduced since the last call.
        """
        if self.own is None:
            raise RuntimeError("no gradient has been reduced since the last call; call it once after each backward")
        own, self.own = self.own, None
        return own, squared_gradient_norm(self.model)


def _measure_and_reduce(norms: GradientNorms, bucket: GradBucket) -> Future[Tensor]:
    part = bucket.buffer().float().square().sum()
    norms.own = part if norms.own is None else norms.own + part
    return allreduce_hook(norms.model.process_group, bucket)


@torch.no_grad()
def squared_gradient_norm(model: nn.Module) -> Tensor:
    """The squared norm of all gradients of a model, on their device.

    On one process the norm after the first of several accumulated batches (times the number of batches squared, if the
    loss is divided by it) is that of a small batch.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> model(torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> squared_gradient_norm(model)
        tensor(25.)
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) ** 2
