"""What the metric classes share: settings of torchmetrics, and the mean of an accuracy with its error.

The modules of this package do without ``from __future__ import annotations``: ``torch.jit.script`` of a model that
holds a metric reads the annotations of its class, and needs types, not strings.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.prints import rank_zero_only

from intensive_callbacks.boundary import warn
from intensive_callbacks.functional.checks import as_float64, as_scalar, require_cells, require_fraction, uncertain
from intensive_callbacks.functional.signatures import checked
from intensive_callbacks.functional.sparsity import require_share
from intensive_callbacks.functional.sums import unless_invalid

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
AnyMetric = TypeVar("AnyMetric", bound="IntensiveMetric")

_warn = rank_zero_only(warn)


def companion(
    method: Callable[Concatenate[AnyMetric, Arguments], Result],
) -> Callable[Concatenate[AnyMetric, Arguments], Result]:
    """A value beside ``compute()``: formed, like it, from the states of all processes, so all have to call it."""

    @functools.wraps(method)
    def over_all_processes(metric: AnyMetric, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with metric.synchronized():
            return method(metric, *args, **kwargs)

    return over_all_processes


class IntensiveMetric(Metric):
    """A metric whose states are sums, so that they add over batches, layers and processes.

    A value that is NaN is explained, once, by :meth:`why_undefined`. Sums and values are formed in float64. What
    ``compute()`` returns is float32, as torchmetrics' wrappers expect it of every metric (a ``BootStrapper`` with
    tensor quantiles fails otherwise), or float64 after ``set_dtype(torch.float64)``; what stands beside it is float64.
    """

    is_differentiable = False
    full_state_update = False
    undefined: str = "nothing that could be counted has been seen"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check what the constructor and ``update`` are given against their signatures."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]
        if "update" in vars(cls):
            cls.update = checked(cls.update)  # type: ignore[method-assign]

    def __init__(self, **kwargs: Any) -> None:
        self._explained = False
        # A cached value would let one rank skip the collective that its peers wait in.
        super().__init__(**{"compute_with_cache": False, **kwargs})

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compute)
        def explained(*args: Any, **kwargs: Any) -> Any:
            value = compute(*args, **kwargs)
            # torchmetrics itself warns where there was no update.
            if self.update_called and not self._explained and isinstance(value, Tensor) and value.isnan().any():
                self._explained = True
                _warn(f"{type(self).__name__} is undefined (NaN): {self.why_undefined()}", UserWarning)
            return apply_to_collection(value, Tensor, self._returned)

        # Inside of torchmetrics' wrapper, the states that explain a value are those of all processes.
        return super()._wrap_compute(explained)

    def _returned(self, value: Tensor) -> Tensor:
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        return value.to(dtype) if value.is_floating_point() else value

    def why_undefined(self) -> str:
        """What made the value NaN, and what to do."""
        return self.undefined

    def extra_repr(self) -> str:
        """The arguments of the constructor that differ from their defaults; each is an attribute of its name."""
        parameters = inspect.signature(type(self)).parameters.values()
        values = {each.name: getattr(self, each.name, each.default) for each in parameters}
        return ", ".join(
            f"{each.name}={values[each.name]!r}" for each in parameters if values[each.name] != each.default
        )

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot a value of ``compute()``, or a sequence of them over steps; by default the present value.

        Needs matplotlib. Bounds are drawn where the metric has them, and which way is better.

        Args:
            val: what ``compute()`` or ``forward()`` returned, or a list of it.
            ax: the matplotlib axes to draw into; a new figure by default.

        Returns:
            The figure (``None`` if ``ax`` was given) and the axes.

        Raises:
            ModuleNotFoundError: without matplotlib.
        """
        return self._plot(val, ax)

    def synchronized(self) -> AbstractContextManager[None]:
        """A context in which the states are those of all processes, as they are in ``compute``."""
        return self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        )

    def add_sum(self, name: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> None:
        """A state that starts at zero and is summed across processes."""
        if shape:
            require_cells(self.size_names(), *shape)
        self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def size_names(self) -> str:
        """The constructor's arguments that are sizes, for an error."""
        return " and ".join(name for name in inspect.signature(type(self)).parameters if name.startswith("num_"))

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add other sums to these; a merge counts as an update."""
        super().merge_state(incoming_state)
        self._update_count += 1


class CheckedMetric(IntensiveMetric):
    """A metric that counts what it was given and cannot use, since an error in ``update`` would wait for the device.

    One such input makes the value NaN, and the warning says how many there were.
    """

    invalid: str
    num_invalid: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("num_invalid", dtype=torch.int64)

    def unless_invalid(self, value: Tensor) -> Tensor:
        """``value``, or NaN where something invalid was counted."""
        return unless_invalid(value, self.num_invalid)

    def why_undefined(self) -> str:
        """What made the value NaN, and what to do."""
        number = int(self.num_invalid.sum())
        return f"{number} of {self.invalid}" if number else self.undefined

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add other sums to these; they may lack ``num_invalid``, if all they count was valid."""
        if isinstance(incoming_state, dict):
            incoming_state = {"num_invalid": torch.zeros_like(self.num_invalid), **incoming_state}
        super().merge_state(incoming_state)


class AccuracyMetric(IntensiveMetric):
    """A function of the mean accuracy.

    ``update(accuracy, num_examples=None)`` takes a fraction in [0, 1] and how many examples it stands for: the mean is
    weighted by them, and where every update told them a standard error is known. Without it an update counts once.
    """

    higher_is_better: bool | None = True
    correct: Tensor
    num_examples: Tensor
    num_uncounted: Tensor
    num_invalid: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("correct")
        self.add_sum("num_examples")
        self.add_sum("num_uncounted")
        self.add_sum("num_invalid")

    def update(self, accuracy: float | Tensor, num_examples: int | None = None) -> None:
        """Add an accuracy, weighted by the examples it stands for."""
        if num_examples is not None and num_examples < 0:
            raise ValueError(f"num_examples must not be negative, got {num_examples}")
        invalid: bool | Tensor = False
        if isinstance(accuracy, Tensor):
            accuracy = as_scalar("accuracy", accuracy).to(self.correct.device)
            invalid = (accuracy < 0) | (accuracy > 1)
        else:
            require_fraction("accuracy", accuracy)
        weight = 1 if num_examples is None else num_examples
        if weight == 0:
            return
        self.correct += accuracy * weight
        self.num_examples += weight
        self.num_uncounted += num_examples is None
        self.num_invalid += invalid

    def mean_accuracy(self) -> Tensor:
        """The weighted mean; NaN before the first update."""
        if self.num_invalid > 0:
            raise ValueError(
                "accuracy must be a fraction in [0, 1] and active_params at most total_params; "
                f"{int(self.num_invalid)} of the tensors given were not"
            )
        return self.correct / self.num_examples

    def value(self, accuracy: Tensor) -> Tensor:
        """The quantity at this accuracy."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """The quantity at the mean accuracy; NaN before the first update."""
        return self.value(self.mean_accuracy())

    @companion
    def standard_error(self) -> Tensor:
        """Standard error of :meth:`compute`: the slope there times sqrt(a (1 - a) / n).

        The binomial error of an accuracy over n independent examples, carried on by the delta method. Where every
        example was right or every one wrong, a is taken at (k + 1/2) / (n + 1): n examples do not prove certainty. NaN
        where an update did not say how many examples it stood for.
        """
        accuracy = self.mean_accuracy()
        if self.num_uncounted > 0:
            return as_float64(torch.nan)
        accuracy = uncertain(accuracy, self.num_examples)
        # A central difference is right to ten digits, and automatic differentiation takes forty times as long.
        half = 1e-5 * torch.minimum(accuracy, 1 - accuracy)
        below, above = self.value(torch.stack([accuracy - half, accuracy + half])).unbind()
        return (above - below).abs() / (2 * half) * (accuracy * (1 - accuracy) / self.num_examples).sqrt()


class ActiveAccuracyMetric(AccuracyMetric):
    """A function of the mean accuracy and of the mean share of the parameters that were active in its examples."""

    active_sum: Tensor

    def __init__(self, total_params: float, active_params: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_share(total_params, active_params)
        self.total_params = total_params
        self.active_params = active_params
        self.add_sum("active_sum")

    def update(
        self,
        accuracy: float | Tensor,
        num_examples: int | None = None,
        active_params: float | Tensor | None = None,
    ) -> None:
        """Add an accuracy, weighted by the examples it stands for, and the parameters that were active in them."""
        active = self.active_params if active_params is None else active_params
        if isinstance(active, Tensor):
            active = as_scalar("active_params", active).to(self.active_sum.device)
            self.num_invalid += (active < 0) | (active > self.total_params)
        else:
            require_share(self.total_params, active)
        super().update(accuracy, num_examples)
        self.active_sum += active * (1 if num_examples is None else num_examples)

    def mean_active_params(self) -> Tensor:
        """The weighted mean of the active parameters; NaN before the first update."""
        return self.active_sum / self.num_examples


class SampleMetric(IntensiveMetric):
    """A metric that has to look at samples together: it keeps the last ``num_samples`` rows that are finite.

    The buffer has its full size from the start, NaN where it is empty, so that all processes gather the same shape.
    Nothing here waits for the device before ``compute``.
    """

    full_state_update = True  # forward() would otherwise join two buffers at every step
    samples: Tensor
    num_dropped: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("num_dropped", dtype=torch.int64)

    def add_samples(self, num_samples: int, width: int, dtype: torch.dtype = torch.float64) -> None:
        """The buffer, of rows of ``width`` numbers."""
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        require_cells("num_samples and the columns of a sample", num_samples, width)
        self.num_samples = num_samples
        empty = torch.full((num_samples, width), torch.nan, dtype=dtype)
        self.add_state("samples", default=empty, dist_reduce_fx="cat")

    def keep(self, rows: Tensor) -> None:
        """Add rows ``[n, width]``; the oldest make room, and those that are not finite are counted and left out."""
        rows = rows.detach().to(self.samples)
        self.num_dropped += (~rows.isfinite().all(-1)).sum()
        self._append(rows)

    def _append(self, rows: Tensor) -> None:
        rows = torch.cat([self.samples, rows])
        newest_last = rows.isfinite().all(-1).to(torch.uint8).argsort(stable=True)
        self.samples = rows[newest_last[-self.num_samples :]]

    def kept(self) -> Tensor:
        """The rows ``[n, width]`` that are there."""
        rows = self.samples.flatten(0, -2)  # the processes' buffers were stacked
        return rows[rows.isfinite().all(-1)]

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add other sums to these and other samples after these; a merge counts as an update."""
        incoming: dict[str, Any] = (
            dict(incoming_state.metric_state) if isinstance(incoming_state, Metric) else incoming_state
        )
        for name, value in incoming.items():
            if name == "samples":
                self._append(value.to(self.samples))
            else:
                setattr(self, name, getattr(self, name) + value)
        self._update_count += 1
