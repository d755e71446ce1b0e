"""One fused reduction of everything a logging step needs, over all processes.

This is the only file that can hang, so it has one rule: which collectives run depends on nothing but what every process
has agreed on in the first of them. At most three run, whatever the number of states:

1. a header of fixed size: a hash of the schema and the size of the samples. Where the hashes differ, the schemas
   follow, and what is not the same on every process is left out of the two others;
2. the sums of all states, packed into one float64 tensor (counts stay exact below 2**53), with the failures;
3. the samples, packed into bytes and padded to the largest process: only where there are any.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def num_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_distributed() -> bool:
    """Whether there are other processes to agree with."""
    return num_processes() > 1


def reduce_states(
    sums: Mapping[str, Tensor],
    samples: Mapping[str, Tensor] | None = None,
    failed: Collection[str] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
    """Sum states and collect samples over all processes.

    Args:
        sums: ``group/...`` to tensors to add up; the same names, shapes and dtypes on every process.
        samples: ``group/...`` to tensors to concatenate along their first dimension, in the order of the processes; the
            same names on every process, and empty where a process has none.
        failed: groups that could not be formed here, whether or not they have states.

    Returns:
        The sums, the samples, and the groups that failed on any process or whose states are not those of every process,
        of which the differing ones have no sums or samples left. On one process, what was given.

    Example:
        >>> reduce_states({"training/load": torch.tensor([3, 1])})
        ({'training/load': tensor([3, 1])}, {}, set())
    """
    samples = samples or {}
    if not is_distributed():
        return dict(sums), dict(samples), set(failed)
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    packed_samples = _pack(samples, device) if samples else torch.empty(0, dtype=torch.uint8, device=device)
    largest, differing = _agree(_schema(sums, samples, failed), packed_samples.numel(), device)
    sums, samples = _without(sums, differing), _without(samples, differing)
    groups = sorted({_group(name) for name in [*sums, *samples]})
    failures = torch.tensor([group in failed for group in groups], dtype=torch.float64, device=device)
    packed = torch.cat([failures, *(value.to(device, torch.float64).flatten() for value in sums.values())])
    dist.all_reduce(packed)
    pieces = torch.split(packed[len(groups) :], [value.numel() for value in sums.values()])
    reduced = {
        name: piece.reshape(value.shape).to(value.device, value.dtype)
        for (name, value), piece in zip(sums.items(), pieces, strict=True)
    }
    num_failures = packed[: len(groups)].tolist()
    anywhere = {group for group, count in zip(groups, num_failures, strict=True) if count} | differing
    collected, unequal = _collect(samples, packed_samples, largest) if samples else ({}, set())
    return _without(reduced, unequal), _without(collected, unequal), anywhere | unequal


def _group(name: str) -> str:
    return name.partition("/")[0]


def _without(states: Mapping[str, Tensor], groups: Collection[str]) -> dict[str, Tensor]:
    return {name: value for name, value in states.items() if _group(name) not in groups}


def _schema(sums: Mapping[str, Tensor], samples: Mapping[str, Tensor], failed: Collection[str]) -> str:
    """One line for each state, and for each group that failed without any."""
    lines = [f"{name}: sum of {tuple(value.shape)} {value.dtype}" for name, value in sums.items()]
    lines += [f"{name}: samples" for name in samples]
    stateless = set(failed) - {_group(name) for name in [*sums, *samples]}
    return "\n".join([*lines, *(f"{name}/: failed" for name in sorted(stateless))])


def _agree(schema: str, num_bytes: int, device: torch.device) -> tuple[int, set[str]]:
    """The largest process's number of bytes, and the groups whose states are not those of every process."""
    fingerprint = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:7], "big")
    header = torch.tensor([fingerprint, num_bytes], device=device)
    headers = [torch.empty_like(header) for _ in range(dist.get_world_size())]
    dist.all_gather(headers, header)
    fingerprints, sizes = torch.stack(headers).t().tolist()
    if len(set(fingerprints)) == 1:
        return int(max(sizes)), {_group(line) for line in schema.splitlines() if line.endswith("/: failed")}
    schemas: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(schemas, schema)
    lines = [set(text.splitlines()) for text in schemas]
    anywhere, everywhere = lines[0].union(*lines), lines[0].intersection(*lines)
    failed = {line for line in anywhere if line.endswith("/: failed")}
    return int(max(sizes)), {_group(line) for line in (anywhere - everywhere) | failed}


def _pack(samples: Mapping[str, Tensor], device: torch.device) -> Tensor:
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in samples.items()}, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).to(device)


def _collect(samples: Mapping[str, Tensor], packed: Tensor, largest: int) -> tuple[dict[str, Tensor], set[str]]:
    """The samples of every process, concatenated, and the groups whose samples have other shapes elsewhere."""
    padded = torch.nn.functional.pad(packed, (0, largest - packed.numel()))
    everywhere = [torch.empty_like(padded) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, padded)
    buffers = [torch.load(io.BytesIO(each.cpu().numpy().tobytes())) for each in everywhere]
    collected: dict[str, Tensor] = {}
    unequal: set[str] = set()
    for name, value in samples.items():
        filled = [buffer[name] for buffer in buffers if buffer[name].numel()]
        if len({each.shape[1:] for each in filled}) > 1:
            unequal.add(_group(name))
        else:
            collected[name] = torch.cat(filled).to(value.device) if filled else value
    return collected, unequal
