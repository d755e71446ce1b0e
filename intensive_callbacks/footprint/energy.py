"""Energy in joules by the GPU's own counter; absent where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

from intensive_callbacks.boundary import Boundary

__all__ = ["EnergyMeter"]

READING = "reading the energy"  # how a warning calls this part


class EnergyMeter:
    """Energy that GPUs drew while it was on, in joules, by NVML's counter of each whole device.

    The counter includes idle power and whatever else runs on the device, and moves about every 20 ms to 100 ms: measure
    over seconds. Reading it does not synchronize; work still queued on the device is charged to the next measurement.

    As a context manager it warns where the counter fails; :meth:`start` and :meth:`stop` raise then.

    Args:
        devices: GPUs to read, as torch numbers them; by default the current one.

    Attributes:
        joules: of the last measurement; ``None`` where there is no counter, or it failed.
        missing: why the GPUs have no counter; empty where they have one, or there is no GPU.

    Example:
        >>> with EnergyMeter() as meter:
        ...     pass
        >>> meter.joules is None or meter.joules >= 0  # None where nothing can be measured
        True
    """

    def __init__(self, devices: Sequence[int] | None = None) -> None:
        if devices is None:
            devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        self._handles, self.missing = _handles(devices)
        self._boundary = Boundary()
        self._start = 0.0
        self.joules: float | None = None

    def start(self) -> None:
        """Start measuring."""
        self.joules = None
        self._start = self._read()

    def stop(self) -> None:
        """Store the energy drawn since :meth:`start` in ``joules``."""
        if self._handles:
            self.joules = self._read() - self._start

    def __enter__(self) -> Self:
        self._boundary.call(READING, self.start, off=self._handles.clear)
        return self

    def __exit__(self, *_: object) -> None:
        self._boundary.call(READING, self.stop, off=self._handles.clear)

    def _read(self) -> float:
        """Sum of the counters, in joules."""
        if not self._handles:
            return 0.0
        import pynvml

        return float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles)) / 1000


def _handles(devices: Sequence[int]) -> tuple[list[Any], str]:
    """NVML's handles of these GPUs, none where NVML, or its energy counter on any of them, is missing; and why."""
    if not devices:
        return [], ""
    try:
        import pynvml
    except ImportError:
        return [], "NVML is not installed; pip install 'intensive-callbacks[energy]'"
    try:
        pynvml.nvmlInit()
        # NVML does not know CUDA_VISIBLE_DEVICES; the identifier is the same to both.
        names = [f"GPU-{torch.cuda.get_device_properties(device).uuid}" for device in devices]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(name) for name in names]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return [], f"NVML counts no energy on these GPUs ({error})"
    return handles, ""
