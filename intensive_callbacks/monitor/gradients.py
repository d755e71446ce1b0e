"""Squared gradient norms over two batch sizes, at no extra backward pass: what the critical batch size is fed with."""

# DDP compares a hook's annotations with the types themselves, so they must not be postponed to strings here.

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined] # torch leaves it out of its __all__
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from intensive_callbacks.boundary import Refused


class GradientNorms:
    """The squared norms of a process's own gradient and of the average over all processes, under DDP.

    After a backward pass ``.grad`` already is the average, so the own gradient is taken in a communication hook, just
    before the all-reduce, which is DDP's own to the bit. The hook adds one number to a tensor on the device and waits
    for nothing. With accumulation it sees the last of the backward passes, whose buckets hold what was accumulated. A
    model has one communication hook: one that has another (PowerSGD, say) refuses this.

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

    def add(self, part: Tensor) -> None:
        """Add the squared norm of one bucket of the own gradient."""
        self.own = part if self.own is None else self.own + part

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
    gradient = bucket.buffer()
    norms.add(gradient.float().square().sum())
    group = norms.model.process_group
    # Multiplied as DDP does without a hook: dividing rounds differently where the processes are no power of two.
    work = dist.all_reduce(gradient.mul_(1 / group.size()), group=group, async_op=True)
    future: Future[Tensor] = work.get_future().then(lambda reduced: reduced.value()[0])
    return future


class GradientPairs:
    """The squared norms of a small and a large batch's gradient at every optimizer step of a training loop.

    Under DDP the small batch is a process's own; on one process it is the first of those that are accumulated, whose
    losses the loop divides by their number. Tell it of each batch, each backward pass and, before gradients are
    clipped, of each optimizer step.

    Args:
        model: the model that trains, wrapped in DDP or not.
        num_accumulated: batches to an optimizer step.

    Raises:
        ValueError: if there are no two batch sizes, or the gradients are sharded.
    """

    def __init__(self, model: nn.Module, num_accumulated: int) -> None:
        self._norms = GradientNorms(model) if isinstance(model, DistributedDataParallel) else None
        if self._norms is None and num_accumulated < 2:
            raise Refused(
                "the critical batch size needs gradients of two batch sizes: train on several processes with DDP, or "
                "with accumulate_grad_batches of at least 2"
            )
        if any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
            raise Refused("the critical batch size cannot be taken from sharded gradients; train with DDP")
        self._model, self._num_accumulated = model, num_accumulated
        self._sizes: list[int] = []
        self._first: Tensor | None = None

    def begin_batch(self, num_examples: int) -> None:
        """Record a batch before its forward pass."""
        self._sizes.append(num_examples)

    def end_backward(self) -> None:
        """Take the norm after a backward pass."""
        if self._norms is None and len(self._sizes) == 1:
            self._first = squared_gradient_norm(self._model) * self._num_accumulated**2

    def step(self) -> tuple[Tensor, Tensor, int, int] | None:
        """Small and large squared norm and batch size of this step; ``None`` where its batches are not of one size."""
        sizes, self._sizes = self._sizes, []
        if self._norms is not None:
            small, large = self._norms.read()
            num_examples = sum(sizes)
            return small, large, num_examples, num_examples * self._norms.model.process_group.size()
        if self._first is None or len(sizes) != self._num_accumulated or len(set(sizes)) > 1:
            return None
        return self._first, squared_gradient_norm(self._model), sizes[0], sum(sizes)


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
