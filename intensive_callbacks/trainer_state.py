"""What the callback reads of a Lightning Trainer, without importing Lightning, which comes in two packages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.boundary import Refused
from intensive_callbacks.monitor import batches
from intensive_callbacks.monitor.gradients import GradientPairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    Trainer = Any

FOLDER = "intensive_metrics"


def folder_of(trainer: Trainer) -> Path | None:
    """Where the files of a run go: beside its logger's, as ModelCheckpoint's do."""
    if trainer.fast_dev_run:
        return None
    if not trainer.loggers:
        return Path(trainer.default_root_dir) / FOLDER
    logger = trainer.loggers[0]
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or trainer.default_root_dir) / str(logger.name) / version / FOLDER


def validates_a_fit(trainer: Trainer) -> bool:
    """Whether the validation that runs belongs to a training and is not its sanity check."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def just_logged(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What this training step has logged: ``callback_metrics`` also has values from before."""
    results = trainer._results  # noqa: SLF001 - no other way
    return dict(results.metrics(on_step=True)["callback"]) if results else {}


def gradient_pairs(trainer: Trainer) -> GradientPairs:
    """What takes the gradients' norms in this training, whose gradients must be those of the loss."""
    if not trainer.lightning_module.automatic_optimization:
        raise Refused("the critical batch size needs automatic optimization; in a loop of your own use a Monitor")
    if len(trainer.optimizers) != 1:
        raise Refused(f"the critical batch size needs one optimizer, got {len(trainer.optimizers)}")
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise Refused("the critical batch size needs gradients that are not scaled; train in bf16 or full precision")
    return GradientPairs(trainer.strategy.model or trainer.lightning_module, trainer.accumulate_grad_batches)


@contextmanager
def modes_kept(module: torch.nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of each module afterwards."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        yield
    finally:
        for each, mode in modes:
            vars(each)["training"] = mode


def parts_of(trainer: Trainer, batch: Any) -> list[Any]:
    """The batches in a training batch, one for each loader; none where a single loader gave it."""
    loaders = trainer.train_dataloader
    return list(_parts(loaders, batch)) if isinstance(loaders, (Mapping, list, tuple)) else []


def _parts(loaders: Any, batch: Any) -> Iterator[Any]:
    """The batches that stand where the loaders do; one whose loader has ended is left out."""
    if isinstance(loaders, Mapping) and isinstance(batch, Mapping) and loaders.keys() == batch.keys():
        for name, loader in loaders.items():
            yield from _parts(loader, batch[name])
    elif isinstance(loaders, (list, tuple)) and isinstance(batch, (list, tuple)) and len(loaders) == len(batch):
        for loader, part in zip(loaders, batch, strict=True):
            yield from _parts(loader, part)
    elif batch is not None:
        yield batch


class ScoredItems:
    """How many answers the accuracy of a validation is a share of.

    Lightning weighs the accuracy of each batch by a batch size, which need not be the number of answers: for a language
    model it is mostly the number of sequences. So a number is only taken for that of the answers if it makes the
    accuracy a whole number of right answers, in every batch that logged it. An accuracy that no number fits, such as a
    mean over classes, has none.

    Args:
        key: the accuracy's key in ``trainer.callback_metrics``.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._sums: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._examples: list[int] = []
        self._tokens: list[int | torch.Tensor | None] = []

    def add(self, trainer: Trainer, batch: Any, dataloader_idx: int) -> None:
        """Record a batch after its validation step; nothing is read from the device."""
        _, of_one_loader, index = self._key.rpartition("/dataloader_idx_")
        if of_one_loader and index != str(dataloader_idx):
            return
        result = _result(trainer, self._key)
        if result is not None and result.is_tensor and result.meta.is_mean_reduction:
            if not self._sums:  # the batches before did not log it
                self._examples, self._tokens = [], []
            # Lightning replaces both tensors with each batch.
            self._sums.append((result.value, result.cumulated_batch_size))
        self._examples.append(batches.num_examples(batch))
        self._tokens.append(batches.num_tokens(batch))

    @property
    def num_examples(self) -> int:
        """The examples of this process, which its accuracy is weighed by beside those of others."""
        return sum(self._examples)

    def count(self, accuracy: float | torch.Tensor, num_processes: int = 1) -> int | None:
        """The number of answers on this process, ``None`` where it is not known.

        Args:
            accuracy: what the validation logged.
            num_processes: how many processes it is over.
        """
        tokens = [int(each) for each in self._tokens if each is not None]
        tokens = tokens if len(tokens) == len(self._examples) else []
        if len(self._sums) == len(self._examples) > 0:
            return self._of_batches(tokens)
        for number in (self.num_examples, sum(tokens)):
            if number and _is_whole(float(accuracy) * number * num_processes, number * num_processes):
                return number
        return None

    def _of_batches(self, tokens: list[int]) -> int | None:
        values, weights = (
            torch.stack(column).double().cpu().diff(prepend=_ZERO) for column in zip(*self._sums, strict=True)
        )
        total = int(weights.sum())
        pairs = list(zip(values.tolist(), weights.tolist(), strict=True))
        if all(_is_whole(value, total) for value, _ in pairs):
            return total
        shares = [value / weight for value, weight in pairs if weight]
        if len(shares) == len(tokens) and all(
            _is_whole(share * number, number + total) for share, number in zip(shares, tokens, strict=True)
        ):
            return sum(tokens)
        return None


_ZERO = torch.zeros(1, dtype=torch.float64)


def _is_whole(number: float, size: float) -> bool:
    """Whether a number of right answers among ``size`` is whole, as far as float32 tells."""
    return math.isfinite(number) and abs(number - round(number)) < 1e-3 + 5e-7 * size


def _result(trainer: Trainer, key: str) -> Any:
    """What Lightning has collected under a key in the validation that runs."""
    for result in (trainer._results or {}).values():  # noqa: SLF001 - no other way
        meta = result.meta
        has_suffix = meta.add_dataloader_idx and meta.dataloader_idx is not None
        suffix = f"/dataloader_idx_{meta.dataloader_idx}" if has_suffix else ""
        names = {meta.name + suffix, meta.forked_name(on_step=False) + suffix}
        if meta.on_epoch and not result.has_reset and key in names:
            return result
    return None
