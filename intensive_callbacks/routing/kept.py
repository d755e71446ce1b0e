"""Expert ids that are kept as the routers gave them, and counted for many forwards and layers in one pass.

What a count costs is its operators, not its numbers: one pass over the ids of a window costs about as much as one
over those of a single forward.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 1 << 20  # of the tensors that one layer keeps
NUM_TRIED = 3  # forwards that are counted at once, to see whether the model writes into its ids afterwards


class Kept(NamedTuple):
    """The ids ``[T, k]`` of one forward and the mask of its tokens, as they were at these versions."""

    ids: Tensor
    version: int | None
    mask: Tensor | None
    num_expected: int
    mask_version: int | None = None

    @property
    def is_overwritten(self) -> bool:
        """Whether somebody wrote into the ids or the mask since."""
        is_old = self.version is not None and _version(self.ids) != self.version
        return is_old or (self.mask is not None and _version(self.mask) != self.mask_version)

    @property
    def key(self) -> tuple[object, ...]:
        """What must be equal to be counted in one pass."""
        return self.ids.shape[1], self.ids.dtype, self.ids.device, self.mask is not None, self.num_expected


class KeptIds:
    """The ids of one layer that are still to be counted.

    Attributes:
        num_bytes: what the ids that are kept take.
    """

    def __init__(self) -> None:
        self._kept: list[Kept] = []
        self.num_bytes = 0
        self._num_tried = 0
        self._last: Kept | None = None

    def keep(self, ids: Tensor, mask: Tensor | None, num_expected: int, device: torch.device) -> bool:
        """Keep ids for :func:`count_kept`; false if they are to be counted at once.

        The tensors themselves are kept, no copies. A model that writes into them when its layer has run is counted at
        once for good.
        """
        if self._num_tried < 0 or type(ids) is not Tensor or ids.device != device or ids.dim() != 2:
            return False
        if mask is not None and mask.device != device:
            return False
        version = _version(ids)
        if self._num_tried < NUM_TRIED:
            self._try(Kept(ids, version, None, 0))
            return False
        num_bytes = ids.untyped_storage().nbytes()
        if version is None or num_bytes > 2 * ids.nbytes:  # no version tells of writes; or a view of much more
            ids, version, num_bytes = ids.clone(), None, ids.nbytes
        if 2 * num_bytes > MAX_BYTES:
            return False
        if mask is not None and mask.is_inference():
            mask = mask.clone()
        self._kept.append(Kept(ids, version, mask, num_expected, None if mask is None else _version(mask)))
        self.num_bytes += num_bytes
        return True

    def _try(self, kept: Kept) -> None:
        last, self._last = self._last, kept
        self._num_tried += 1
        if last is not None and last.is_overwritten:
            self._num_tried, self._last = -1, None
        elif self._num_tried == NUM_TRIED:
            self._last = None

    @property
    def is_full(self) -> bool:
        """Whether as much is kept as may be."""
        return self.num_bytes > MAX_BYTES

    def forget(self) -> None:
        """Drop what was kept: the sums are about to be overwritten."""
        self._kept, self.num_bytes = [], 0

    def take(self) -> list[Kept]:
        """What was kept, which is forgotten; ids that were written into are replaced by as many invalid ones."""
        if not self._kept:
            return []
        kept, self._kept, self.num_bytes = self._kept, [], 0
        for number, each in enumerate(kept):
            if each.is_overwritten:
                mask = None if each.mask is None else torch.ones_like(each.mask)
                kept[number] = each._replace(ids=torch.full_like(each.ids, -2), mask=mask)
                self._num_tried = -1
        return kept


def _version(tensor: Tensor) -> int | None:
    """How often somebody wrote into a tensor; ``None`` where nothing tells."""
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001 - nothing public tells


class Counter(Protocol):
    """The sums of one layer, with the ids that are still to be added."""

    num_experts: int
    device: torch.device
    kept: KeptIds

    @property
    def integers(self) -> list[Tensor]:
        """Loads, tokens and expected selections first."""


def count_kept(layers: Iterable[Counter]) -> None:
    """Add what layers have kept to their sums; layers that kept equally much of one kind are added in one pass."""
    passes: dict[tuple[object, ...], list[tuple[Counter, list[Kept]]]] = {}
    for layer in layers:
        by_key: dict[tuple[object, ...], list[Kept]] = {}
        for kept in layer.kept.take():
            by_key.setdefault(kept.key, []).append(kept)
        for key, several in by_key.items():
            num_rows = sum(len(kept.ids) for kept in several)
            passes.setdefault((layer.num_experts, layer.device, num_rows, *key), []).append((layer, several))
    for each in passes.values():
        _count_together([layer for layer, _ in each], [several for _, several in each])


def _count_together(layers: list[Counter], kept: list[list[Kept]]) -> None:
    num_layers, num_slots = len(layers), layers[0].num_experts + 2
    ids = torch.cat([each.ids for each in chain(*kept)]).to(torch.int64).view(num_layers, -1, kept[0][0].ids.shape[1])
    # -2 and E, the invalid ones, are slot E modulo E + 2; -1 is slot E + 1.
    slots = ids.clamp(-2, num_slots - 2).remainder_(num_slots)
    if num_layers > 1:
        slots += (torch.arange(num_layers, device=ids.device) * num_slots)[:, None, None]
    counts = torch.zeros(num_layers * num_slots, dtype=torch.int64, device=ids.device)
    mask = kept[0][0].mask
    loads, num_tokens, num_expected = zip(*(layer.integers[:3] for layer in layers), strict=True)
    if mask is None:  # the number of tokens is known to the host
        ones = counts.new_ones(1).expand(slots.numel())
    else:
        masks = torch.cat([each.mask for each in chain(*kept) if each.mask is not None]).view(num_layers, -1)
        ones = masks.to(torch.int64)[..., None].expand_as(slots).flatten()
        real = masks.sum(1, keepdim=True)
        torch._foreach_add_(num_tokens, list(real.unbind()))
        torch._foreach_add_(num_expected, list((real * kept[0][0].num_expected).unbind()))
    counts.scatter_add_(0, slots.flatten(), ones)
    torch._foreach_add_(loads, list(counts.view(num_layers, num_slots).unbind()))
