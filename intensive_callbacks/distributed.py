"""One fused reduction of everything a logging step needs, over all processes.

This is the only file that can hang, so it has one rule: which collectives run depends on nothing but what every process
has agreed on in the first of them. At most three run, whatever the number of states:

1. a header of fixed size: where the process is (its step), a hash of the schema and the size of the samples. Processes
   at different steps all raise. Where the hashes differ, the schemas follow, and what is not the same on every process
   is left out of the two others;
2. the sums of all states, packed into one float64 tensor (counts stay exact below 2**53), with the failures;
3. the samples, packed into bytes and padded to the largest process: only where there are any.

They run in a group of their own, so that one process that logs alone cannot be taken for one that trains, and give up
after half the time that the training itself waits for a process.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta

    from torch.distributed import ProcessGroup

MOST = 1024  # processes of a Gloo group, in which each is connected with every other one
_NUMBERS = itertools.count()  # of what this process makes; every process makes it in the same order


class ProcessesDisagree(RuntimeError):  # noqa: N818 - it says what is wrong
    """The processes are at different logging steps, or one does not come: their values cannot be reduced."""


class Processes:
    """The processes that train one model together.

    Args:
        group: the group to reduce in; by default all processes, in a Gloo group of the library's own, which is made at
            the first logging step and waits half as long for a process as the training does.

    Example:
        >>> Processes().are_several
        False
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        self._given: ProcessGroup | None = group
        self._own: Any = None
        self._name = f"intensive_callbacks/{next(_NUMBERS)}" if group is None else None

    @property
    def are_several(self) -> bool:
        """Whether there are other processes to agree with."""
        return num_processes(self._given) > 1

    def reduce(
        self,
        sums: Mapping[str, Tensor],
        samples: Mapping[str, Tensor],
        failed: Collection[str] = (),
        optional: Collection[str] = (),
        where: Mapping[str, int] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
        """:func:`reduce_states` in this group.

        Raises:
            ProcessesDisagree: if a process did not come to this logging step, or came to another one.
        """
        try:
            return reduce_states(sums, samples, failed, group=self._group(), optional=optional, where=where)
        except (RuntimeError, ValueError) as error:
            self._leave()
            if isinstance(error, ProcessesDisagree) or not self.are_several:
                raise
            raise ProcessesDisagree(
                "another process did not come to this logging step, or could not be reached. Call log() on every "
                "process at the same steps; if a process needs longer, pass process_group= with a longer timeout"
            ) from error

    def _group(self) -> ProcessGroup | None:
        """The group given, or one of Gloo that nothing else uses; ``None``, that of the training, if it cannot be made.

        It is not registered with ``torch.distributed``, whose groups every process must make in the same order.
        """
        if self._given is not None or not 1 < num_processes() <= MOST or not dist.is_gloo_available():
            return self._given
        if _world_store() is None:
            return None
        if self._own is None:
            if self.were_left:
                raise ProcessesDisagree("another process has stopped to log, since this one did not come in time")
            world = dist.distributed_c10d._get_default_group()  # noqa: SLF001 - there is no public way to its timeout
            prefixed = dist.distributed_c10d.PrefixStore
            store = prefixed(f"{self._name}/group", _world_store())
            self._own = dist.ProcessGroupGloo(store, world.rank(), world.size(), _timeout(world) / 2)
        return cast("ProcessGroup", self._own)

    def _leave(self) -> None:
        """Tell the processes that do not come that nobody waits for them any more."""
        if self._name and self.are_several and (store := _world_store()) is not None:
            store.set(f"{self._name}/left", "1")

    @property
    def were_left(self) -> bool:
        """Whether another process has stopped to log, since the processes did not log together."""
        if not self._name or not self.are_several or (store := _world_store()) is None:
            return False
        try:
            return bool(store.check([f"{self._name}/left"]))
        except RuntimeError:  # its process has ended
            return False


def _world_store() -> Any:
    """What the processes found each other by; MPI has none."""
    world = dist.distributed_c10d._get_default_group()  # noqa: SLF001 - there is no public way
    return dist.distributed_c10d._world.pg_map[world][1]  # noqa: SLF001 - the same


def num_processes(group: ProcessGroup | None = None) -> int:
    """How many processes train together, in a group or in all."""
    return max(dist.get_world_size(group), 1) if dist.is_available() and dist.is_initialized() else 1


def is_distributed(group: ProcessGroup | None = None) -> bool:
    """Whether there are other processes to agree with."""
    return num_processes(group) > 1


def _timeout(group: Any) -> timedelta:
    """How long the collectives of a group wait for a process."""
    for backend in {device.type for device in group._device_types}:  # noqa: SLF001 - there is no public way
        options = getattr(group._get_backend(torch.device(backend)), "options", None)  # noqa: SLF001 - the same
        if options is not None:
            limit: timedelta = options._timeout  # noqa: SLF001 - the same
            return limit
    return dist.distributed_c10d.default_pg_timeout


def reduce_states(
    sums: Mapping[str, Tensor],
    samples: Mapping[str, Tensor] | None = None,
    failed: Collection[str] = (),
    *,
    group: ProcessGroup | None = None,
    optional: Collection[str] = (),
    where: Mapping[str, int] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
    """Sum states and collect samples over all processes.

    Args:
        sums: ``part/...`` to tensors to add up; the same names, shapes and dtypes on every process.
        samples: ``part/...`` to tensors to concatenate along their first dimension, in the order of the processes; the
            same names on every process, and empty where a process has none.
        failed: parts that could not be formed here, whether or not they have states.
        group: the group of processes; by default all.
        optional: parts that a process may lack: it then adds nothing, and gets what the others have.
        where: integers that must be the same on every process, by what they are called in the error.

    Returns:
        The sums, the samples, and the parts that failed on any process or whose states are not those of every process,
        of which the differing ones have no sums or samples left. On one process, what was given.

    Raises:
        ProcessesDisagree: on every process, if ``where`` is not the same on all of them.

    Example:
        >>> reduce_states({"training/load": torch.tensor([3, 1])})
        ({'training/load': tensor([3, 1])}, {}, set())
    """
    samples = samples or {}
    if not is_distributed(group):
        return dict(sums), dict(samples), set(failed)
    talk = _Talk(group)
    schema = _schema(sums, samples, failed, optional)
    bytes_of_samples = _pack(samples) if samples else b""
    largest, differing, lacking = talk.agree(schema, len(bytes_of_samples), where or {})
    sums = _without({**sums, **_zeros(lacking, "sum")}, differing)
    samples = _without({**samples, **_zeros(lacking, "samples")}, differing)
    sums, samples = dict(sorted(sums.items())), dict(sorted(samples.items()))
    parts = sorted({_part(name) for name in [*sums, *samples]})
    failures = torch.tensor([part in failed for part in parts], dtype=torch.float64, device=talk.device)
    packed = torch.cat([failures, *(value.to(talk.device, torch.float64).flatten() for value in sums.values())])
    dist.all_reduce(packed, group=group)
    pieces = torch.split(packed[len(parts) :], [value.numel() for value in sums.values()])
    reduced = {
        name: piece.reshape(value.shape).to(value.device, value.dtype)
        for (name, value), piece in zip(sums.items(), pieces, strict=True)
    }
    num_failures = packed[: len(parts)].tolist()
    anywhere = {part for part, count in zip(parts, num_failures, strict=True) if count} | differing
    collected, unequal = _merge(samples, talk.gather(bytes_of_samples, largest)) if samples else ({}, set())
    return _without(reduced, unequal), _without(collected, unequal), anywhere | unequal


class _Talk:
    """The collectives over small integers and bytes that the processes agree by."""

    def __init__(self, group: ProcessGroup | None) -> None:
        self._group = group
        is_on_gpu = (
            not (dist.is_gloo_available() and isinstance(group, dist.ProcessGroupGloo))
            and dist.get_backend(group) == "nccl"
        )
        self.device = torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else torch.device("cpu")

    def agree(
        self, schema: list[list[Any]], num_bytes: int, where: Mapping[str, int]
    ) -> tuple[int, set[str], list[list[Any]]]:
        """What the processes have in common.

        Returns:
            The largest process's bytes of samples, the parts whose states are not those of every process, and the rows
            of the schema that this process lacks and may lack.
        """
        text = json.dumps(schema).encode()
        fingerprint = int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
        numbers = [fingerprint, *where.values()]
        # The greatest number and, negated, the least.
        header = torch.tensor([num_bytes, len(text), *numbers, *(-n for n in numbers)], device=self.device)
        dist.all_reduce(header, op=dist.ReduceOp.MAX, group=self._group)
        largest, longest, *extremes = header.tolist()
        most, least = extremes[: len(numbers)], [-n for n in extremes[len(numbers) :]]
        ranges = zip(where, least[1:], most[1:], strict=True)
        if differing := [f"{name} {low} and {high}" for name, low, high in ranges if low != high]:
            raise ProcessesDisagree(
                f"the processes do not log together: {', '.join(differing)}. Call log() on every process at the same "
                "steps"
            )
        if most[0] == least[0]:
            return largest, {_part(name) for name, kind, *_ in schema if kind == "failed"}, []
        schemas = [json.loads(each) for each in self.gather(text, longest)]
        return largest, *_compare(schema, schemas)

    def gather(self, content: bytes, longest: int) -> list[bytes]:
        """The bytes of every process, of which none has more than ``longest``."""
        framed = len(content).to_bytes(8, "big") + content + bytes(longest - len(content))
        tensor = torch.frombuffer(bytearray(framed), dtype=torch.uint8).to(self.device)
        everywhere = [torch.empty_like(tensor) for _ in range(num_processes(self._group))]
        dist.all_gather(everywhere, tensor, group=self._group)
        received = (each.cpu().numpy().tobytes() for each in everywhere)
        return [each[8 : 8 + int.from_bytes(each[:8], "big")] for each in received]


def _part(name: str) -> str:
    return name.partition("/")[0]


def _without(states: Mapping[str, Tensor], parts: Collection[str]) -> dict[str, Tensor]:
    return {name: value for name, value in states.items() if _part(name) not in parts}


def _schema(
    sums: Mapping[str, Tensor], samples: Mapping[str, Tensor], failed: Collection[str], optional: Collection[str]
) -> list[list[Any]]:
    """One row for each state, and for each part that failed without any: name, kind, shape, dtype, may be lacking."""
    rows = [[name, "sum", list(v.shape), str(v.dtype), _part(name) in optional] for name, v in sums.items()]
    rows += [[name, "samples", [], "", _part(name) in optional] for name in samples]
    stateless = set(failed) - {_part(name) for name in [*sums, *samples]}
    return sorted([*rows, *([f"{part}/", "failed", [], "", False] for part in stateless)])


def _compare(own: list[list[Any]], schemas: list[list[list[Any]]]) -> tuple[set[str], list[list[Any]]]:
    """The parts that are not the same everywhere, and the rows of optional ones that are not here."""
    by_part: dict[str, list[list[list[Any]]]] = {}
    for schema in schemas:
        for part in {_part(row[0]) for row in schema}:
            by_part.setdefault(part, []).append([row for row in schema if _part(row[0]) == part])
    differing: set[str] = set()
    lacking: list[list[Any]] = []
    here = {_part(row[0]) for row in own}
    for part, found in sorted(by_part.items()):
        rows = found[0]
        is_everywhere = len(found) == len(schemas) or all(row[4] for row in rows)
        if any(each != rows for each in found) or not is_everywhere or any(row[1] == "failed" for row in rows):
            differing.add(part)
        elif part not in here:
            lacking += rows
    return differing, lacking


def _zeros(rows: list[list[Any]], kind: str) -> dict[str, Tensor]:
    """Empty states for the rows of a schema."""
    return {
        name: torch.zeros(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
        if kind == "sum"
        else torch.empty(0)
        for name, each, shape, dtype, _ in rows
        if each == kind
    }


def _pack(samples: Mapping[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in samples.items()}, buffer)
    return buffer.getvalue()


def _merge(samples: Mapping[str, Tensor], packed: list[bytes]) -> tuple[dict[str, Tensor], set[str]]:
    """The samples of every process, concatenated, and the parts whose samples have other shapes elsewhere."""
    buffers = [torch.load(io.BytesIO(each), weights_only=True) for each in packed if each]
    collected: dict[str, Tensor] = {}
    unequal: set[str] = set()
    for name, value in samples.items():
        filled = [buffer[name] for buffer in buffers if name in buffer and buffer[name].numel()]
        if len({each.shape[1:] for each in filled}) > 1:
            unequal.add(_part(name))
        else:
            collected[name] = torch.cat(filled).to(value.device) if filled else value
    return collected, unequal
