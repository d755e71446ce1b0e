"""Memory in bytes, by scope: resident weights, peak of inference, peak of training, size on disk."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from intensive_callbacks.footprint.preserve import on_the_side, preserved
from intensive_callbacks.footprint.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from torch import nn

__all__ = ["MemoryMeter", "peak_inference_bytes", "peak_training_bytes", "resident_bytes", "size_on_disk"]

WEIGHT_FILES = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.ckpt")


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors inside a wrapper subclass, such as a quantized tensor."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _plain(getattr(tensor, name))


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor: of its packed data and scales if it is quantized, of all shards if it is sharded."""
    if hasattr(tensor, "full_tensor"):  # a DTensor: its parts are this rank's alone
        return tensor.numel() * tensor.element_size()
    return sum(part.numel() * part.element_size() for part in _plain(tensor))


def resident_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights: parameters, buffers, and what quantized layers keep elsewhere, such as scales.

    Shared tensors count once, sharded ones at full size.

    Example:
        >>> resident_bytes(torch.nn.Linear(10, 10, dtype=torch.bfloat16))
        220
    """
    return _bytes(model, [*model.parameters(), *model.buffers()])


def local_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights that this process holds: of sharded tensors its own shard.

    Example:
        >>> local_bytes(torch.nn.Linear(10, 10, dtype=torch.bfloat16))
        220
    """
    held = [*model.parameters(), *model.buffers()]
    return _bytes(model, [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in held])


def _bytes(model: nn.Module, held: list[Tensor]) -> int:
    """Bytes of tensors, and of what a model's quantized layers keep beside them."""
    whole = (tensor for tensor in held if not hasattr(tensor, "full_tensor"))
    storages = {_storage(part) for tensor in whole for part in _plain(tensor)}
    beside = {_storage(tensor): tensor for tensor in Weights(model).beside}
    return sum(map(tensor_bytes, [*held, *(tensor for key, tensor in beside.items() if key not in storages)]))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - a storage's identity


def size_on_disk(path: str | Path) -> int:
    """Bytes of the weights in a file, or of the weight files of one format in a folder.

    A folder that holds the weights twice, as safetensors and in an older format, counts the safetensors.

    Raises:
        FileNotFoundError: if there is no such file, or no weights in the folder.
    """
    path = Path(path)
    if path.is_dir():
        for pattern in WEIGHT_FILES:
            sizes = [file.stat().st_size for file in path.glob(pattern)]
            if sizes:
                return sum(sizes)
        raise FileNotFoundError(f"no weights in {path}: looked for {', '.join(WEIGHT_FILES)}")
    return path.stat().st_size


class MemoryMeter:
    """Measures the peak memory in use while it is on.

    On a GPU it is the allocator's own peak, everything on the device included, and it costs nothing; it resets
    ``torch.cuda.max_memory_allocated``. On other devices the tensors that operators read and make are counted
    as they come and go, with the model's parameters, buffers and gradients: what an operator needs inside is not seen.

    Args:
        model: says on which device to look.

    Example:
        >>> with MemoryMeter(torch.nn.Linear(10, 10)) as meter:
        ...     x = torch.ones(5, 10)
        >>> meter.peak_bytes  # (110 + 50) * 4
        640
    """

    def __init__(self, model: nn.Module) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self._counter = _LiveTensors()
        self._tensors = [*tensors, *(p.grad for p in model.parameters() if p.grad is not None)]

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._counter.had(self._tensors)
            self._counter.__enter__()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self._counter.reached(torch.cuda.max_memory_allocated(self._device))
        else:
            self._counter.__exit__(None, None, None)  # type: ignore[no-untyped-call] # the same

    @property
    def peak_bytes(self) -> int:
        """The peak so far."""
        return self._counter.peak


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call] # the same
    """Bytes of the live storages, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.peak = 0
        self._live = 0
        self._known: set[int] = set()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Keep compiled code compiled while this mode is on."""
        return True

    def reached(self, peak: int) -> None:
        """Set a peak that was measured elsewhere."""
        self.peak = peak

    def had(self, tree: Any) -> None:
        """Add storages seen for the first time that existed before; they were part of every earlier peak."""
        before = self._live
        self._add_all(tree)
        self.peak += self._live - before

    def made(self, tree: Any) -> None:
        """Add storages that an operator has just created."""
        self._add_all(tree)
        self.peak = max(self.peak, self._live)

    def _add_all(self, tree: Any) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                for tensor in _plain(leaf):
                    self._add(tensor.untyped_storage())

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001 - a storage's identity
        if key not in self._known:
            self._known.add(key)
            self._live += size
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        self.had((args, kwargs))
        out = func(*args, **(kwargs or {}))
        self.made(out)
        return out


def peak_inference_bytes(model: nn.Module, *args: Any, **kwargs: Any) -> int:
    """Peak memory of one forward pass of this batch: eval mode, no gradients; the model is left as it was.

    Example:
        >>> peak_inference_bytes(torch.nn.Linear(10, 10), torch.ones(5, 10))  # (110 + 50 + 50) * 4
        840
    """
    with on_the_side(model), MemoryMeter(model) as meter:
        model(*args, **kwargs)
    return meter.peak_bytes


def peak_training_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Peak memory of one forward and backward pass; the model and its gradients are left as they were.

    The optimizer's states are not in it: for them put a :class:`MemoryMeter` around a real training step.

    Args:
        model: in the mode in which it trains.
        loss: runs the forward pass and returns what is differentiated.

    Example:
        >>> layer = torch.nn.Linear(10, 10)
        >>> peak_training_bytes(layer, lambda: layer(torch.ones(5, 10)).sum()) >= 2 * 440
        True
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with preserved(model), MemoryMeter(model) as meter:
            for parameter, _ in gradients:
                parameter.grad = None
            loss().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return meter.peak_bytes
