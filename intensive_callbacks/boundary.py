"""The boundary between this library and a training run: nothing that fails inside crosses it.

Everything that foreign code calls (a framework's event, a forward hook, a function mode, a communication hook), and
every foreign callable that is called from inside (a reader, a tap's ``read``, a logger, a server) goes through one
:class:`Boundary`. Code inside does not guard itself.
"""

from __future__ import annotations

import functools
import logging
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from intensive_callbacks.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

Result = TypeVar("Result")


class Refused(ValueError):  # noqa: N818 - it is a ValueError to the user
    """A setting that cannot be used: the one exception that crosses the boundary, before training starts."""


LOGGER = logging.getLogger("intensive_callbacks")


class Boundary:
    """Turns an exception inside into one warning that names the part, and switches the part off.

    Args:
        strict: raise instead of warning.

    Attributes:
        failed: the parts that failed, with the first exception of each.

    Example:
        >>> boundary = Boundary()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     boundary.call("the tap on 'head'", lambda: 1 / 0, off=lambda: print("hooks removed"))
        hooks removed
        >>> str(caught[0].message)
        "intensive_callbacks: the tap on 'head' failed and is switched off: ZeroDivisionError: division by zero. ..."
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.failed: dict[str, Exception] = {}
        self._warned: set[str] = set()

    def call(
        self,
        part: str,
        function: Callable[..., Result],
        *args: Any,
        off: Callable[[], object] | None = None,
        **kwargs: Any,
    ) -> Result | None:
        """Call ``function``; where it raises, report the part as failed, call ``off`` and return ``None``."""
        try:
            return function(*args, **kwargs)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - this is the boundary
            self.fail(part, error, off=off)
            return None

    @contextmanager
    def guard(self, part: str, *, off: Callable[[], object] | None = None) -> Iterator[None]:
        """A block whose exception, if it raises one, is reported as :meth:`call` does."""
        try:
            yield
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - this is the boundary
            self.fail(part, error, off=off)

    def fail(self, part: str, error: Exception, *, off: Callable[[], object] | None = None) -> None:
        """Report a failed part once and switch it off.

        Raises:
            Exception: ``error`` itself, if ``strict``.
        """
        self.failed.setdefault(part, error)
        if off is not None:
            try:
                off()
            except Exception:
                LOGGER.debug("switching off %s failed", part, exc_info=True)
        if self.strict:
            raise error
        what = "failed and is switched off" if off else "failed"
        described = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self.warn(part, f"{part} {what}: {described}. Training and everything else that is measured go on.")

    def warn(self, topic: str, message: str, category: type[Warning] = RuntimeWarning) -> None:
        """Warn once about a topic; where warnings are errors, log the message instead of raising."""
        if topic in self._warned:
            return
        self._warned.add(topic)
        warn(message, category, stacklevel=4)


def warn(message: str, category: type[Warning] = RuntimeWarning, stacklevel: int = 2) -> None:
    """``warnings.warn`` with the library's name before the message; it never raises, even if warnings are errors.

    A message may quote a name that somebody else chose, so no control character of it reaches the terminal.
    """
    text = f"intensive_callbacks: {printable(message)}"
    try:
        warnings.warn(text, category, stacklevel=stacklevel + 1)
    except Warning:
        LOGGER.warning(text)


class Hook(functools.partial[Any]):
    """A hook whose copies and pickles do nothing and need nothing of this library.

    ``Hook(boundary.call, part, function, off=...)`` is called by torch and passes its arguments on to ``function``. A
    copy of the module (a moving average, a checkpoint of the whole module) gets an idle hook in its place.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return nullcontext().__exit__  # takes any arguments and returns None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")


def at_boundary(event: Callable[..., Any]) -> Callable[..., Any]:
    """An event of a framework, a method of an adapter: what it raises is reported to the adapter's ``boundary``."""

    @functools.wraps(event)
    def reported(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return event(self, *args, **kwargs)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - this is the boundary
            try:
                self.boundary.fail(event.__name__, error)
            except Exception as raised:
                if raised is error:  # strict
                    raise
                LOGGER.exception("%s could not be reported", event.__name__)

    return reported


def remove_hooks(model: nn.Module) -> None:
    """Remove all forward hooks of this library from a model: the last resort where what registered them failed."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):  # noqa: SLF001 - there is no public list
            ours = [
                number
                for number, hook in hooks.items()
                if type(hook).__module__.startswith("intensive_callbacks.")
                or str(getattr(hook, "__module__", "")).startswith("intensive_callbacks.")
            ]
            for number in ours:
                del hooks[number]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Random state, grad mode and autocast are put back, whatever a foreign callable does with them."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices), torch.set_grad_enabled(torch.is_grad_enabled()):
        yield
