"""Our FLOPs beside those of other counters, as shares of the truth counted by hand, in one run.

Needs the other counters, which are no dependencies of the package:

    pip install --no-deps --target OTHERS ptflops calflops torchinfo torchprofile deepspeed \
        hjson py-cpuinfo einops ninja msgpack
    PYTHONPATH=tests:OTHERS python tests/benchmarks/flop_counters.py

prints a table in Markdown; ``--write`` puts it into ``intensive_callbacks/footprint/README.md``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import multiprocessing
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from footprint.flop_cases import CASES, FlopCase, resnet50
from intensive_callbacks.footprint.flops import _Positional, count_flops

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

PAGE = Path(__file__).parents[2] / "intensive_callbacks" / "footprint" / "README.md"


def ours(model: nn.Module, case: FlopCase) -> float:
    return count_flops(model, *case.args, **case.kwargs).total


def flop_counter_mode(model: nn.Module, case: FlopCase) -> float:
    with FlopCounterMode(display=False) as counter:
        model(*case.args, **case.kwargs)
    return counter.get_total_flops()


def fvcore(model: nn.Module, case: FlopCase) -> float:
    from fvcore.nn import FlopCountAnalysis

    wrapped = _Positional(model, case.args, case.kwargs)
    return 2 * FlopCountAnalysis(wrapped, wrapped.tensors).total()


def ptflops(model: nn.Module, case: FlopCase) -> float:
    from ptflops import get_model_complexity_info

    wrapped = _Positional(model, case.args, case.kwargs)
    inputs = {f"tensor_{number}": tensor for number, tensor in enumerate(wrapped.tensors)}
    wrapped.forward, forward = (lambda **tensors: forward(*tensors.values())), wrapped.forward
    macs, _ = get_model_complexity_info(
        wrapped,
        (1,),
        input_constructor=lambda _: inputs,
        backend="aten",
        as_strings=False,
        print_per_layer_stat=False,
    )
    return 2 * macs


def calflops(model: nn.Module, case: FlopCase) -> float:
    from calflops import calculate_flops

    options = {"print_results": False, "print_detailed": False, "output_as_string": False}
    batch = {"kwargs": case.kwargs} if case.kwargs else {"args": list(case.args)}
    flops, _macs, _params = calculate_flops(model, **batch, **options)
    return flops


def torchinfo(model: nn.Module, case: FlopCase) -> float:
    from torchinfo import summary

    return 2 * summary(model, input_data=case.kwargs or case.args, verbose=0).total_mult_adds


def torchprofile(model: nn.Module, case: FlopCase) -> float:
    from torchprofile import profile_macs

    wrapped = _Positional(model, case.args, case.kwargs)
    return 2 * profile_macs(wrapped, wrapped.tensors)


def deepspeed(model: nn.Module, case: FlopCase) -> float:
    from deepspeed.profiling.flops_profiler import get_model_profile

    flops, _macs, _params = get_model_profile(
        model, args=list(case.args), kwargs=case.kwargs, print_profile=False, as_string=False, warm_up=0
    )
    return flops


COUNTERS: dict[str, Callable[[nn.Module, FlopCase], float]] = {
    "ours": ours,
    "FlopCounterMode": flop_counter_mode,
    "fvcore x 2": fvcore,
    "ptflops (aten) x 2": ptflops,
    "calflops": calflops,
    "torchinfo x 2": torchinfo,
    "torchprofile x 2": torchprofile,
    "DeepSpeed": deepspeed,
}
PACKAGES = ("torch", "fvcore", "ptflops", "calflops", "torchinfo", "torchprofile", "deepspeed", "transformers")


def share(cell: tuple[str, int]) -> str:
    """What a counter finds of the true FLOPs; a dash where it fails."""
    name, number = cell
    case = on_real_tensors(CASES[number])
    model = case.build().eval()
    silence = io.StringIO()
    try:
        with torch.no_grad(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            return f"{COUNTERS[name](model, case) / case.flops:.4f}"
    except Exception as error:  # noqa: BLE001 - every counter fails in its own way
        logging.getLogger("counters").warning("%s: %s: %s: %s", name, case.name, type(error).__name__, str(error)[:90])
        return "-"


def on_real_tensors(case: FlopCase) -> FlopCase:
    """Most counters cannot work on the meta device."""
    if case.name != "resnet50":
        return case
    return FlopCase(case.name, lambda: resnet50(device="cpu"), case.flops, (torch.zeros(1, 3, 224, 224),))


def table() -> str:
    rows = [["counted / true", *COUNTERS], ["---"] * (len(COUNTERS) + 1)]
    # Some counters patch torch and leave it patched: each cell is a process of its own.
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for number, case in enumerate(CASES):
            cells = [(name, number) for name in COUNTERS]
            rows.append([case.name, *pool.map(share, cells, chunksize=1)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"{package} {importlib.metadata.version(package)}"
    return f"{package} not installed"


def main(*arguments: Any) -> None:
    warnings.simplefilter("ignore")
    text = f"{table()}\n\nMeasured with {', '.join(map(version, PACKAGES))}."
    sys.stdout.write(text + "\n")
    if "--write" in arguments:
        page = PAGE.read_text()
        marks = re.compile(r"(<!-- flop_counters -->\n).*(\n<!-- end -->)", re.DOTALL)
        PAGE.write_text(marks.sub(lambda found: found[1] + text + found[2], page))


if __name__ == "__main__":
    main(*sys.argv[1:])
