"""Where foreign code and routing meet: what torch calls, and what is asked of a user's modules. Nothing raises here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FunctionWatch(TorchFunctionMode):
    """Calls ``see(handlers, name, output, args, kwargs)`` after every function of torch whose name has handlers.

    Args:
        see: must not raise.
        handlers: by the function's name.
        others: the handlers of all other functions, if there are any.
    """

    def __init__(self, see: Callable[..., object], handlers: Mapping[str, Any], others: Any = None) -> None:
        super().__init__()
        self._see = see
        self._handlers = handlers
        self._others = others

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **kwargs) if kwargs else func(*args)
        name = getattr(func, "__name__", "")
        handlers = self._handlers.get(name, self._others)
        if handlers is not None:
            self._see(handlers, name, output, args, kwargs or {})
        return output


def attribute(holder: Any, name: str) -> Any:
    """An attribute of a user's module or config; ``None`` where there is none or its property raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything until it is set
        return None
