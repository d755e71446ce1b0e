"""Which argument of an experts module is the dispatch, and how users say what their own routers return."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    Reader = Callable[[Any, Any], Mapping[str, Any]]

IDS = re.compile(r"(^|_)(ind(ex|ices)|idx|ids|selected|mask|top_?k?_?experts)(_|$)")
WEIGHTS = re.compile(r"weight|score|prob|gates")

_READERS: dict[type[nn.Module], Reader] = {}


def register_router_reader(module_type: type[nn.Module], read: Reader) -> None:
    """Say how every module of a type is read, wherever a model has one.

    Args:
        module_type: the class of the router, or of the block that routes.
        read: ``read(inputs, output)`` of its forward, ``inputs`` the tuple of positional arguments followed by the
            values of the named ones, returns keyword arguments of :class:`RouterSample`: ``expert_ids`` and what else
            there is of ``weights``, ``dispatch``, ``probabilities``, ``logits`` and ``mask``.

    Example:
        >>> import torch
        >>> from intensive_callbacks import RouterObserver
        >>> class Router(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return super().forward(x).topk(2)
        >>> register_router_reader(Router, lambda inputs, output: {"expert_ids": output.indices})
        >>> model = torch.nn.Sequential(Router(16, 4))
        >>> with RouterObserver(model) as observer:
        ...     _ = model(torch.randn(3, 16))
        >>> observer.statistics["0"].states()["load"].sum()
        tensor(6)
    """
    _READERS[module_type] = read


def registered_reader(module: nn.Module) -> Reader | None:
    """The reader registered for a module's type."""
    return next((read for kind, read in _READERS.items() if isinstance(module, kind)), None)


class ExpertsArguments:
    """Where the ids and the weights stand in the call of an experts module.

    Args:
        experts: the module.
    """

    def __init__(self, experts: nn.Module) -> None:
        parameters = list(inspect.signature(experts.forward).parameters)
        self.ids = next(((i, name) for i, name in enumerate(parameters) if IDS.search(name)), None)
        self.weights = next(((i, name) for i, name in enumerate(parameters) if WEIGHTS.search(name)), None)

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        """The ids and the weights of one call."""
        found: list[Any] = [None, None]
        for slot, place in enumerate((self.ids, self.weights)):
            if place is not None:
                found[slot] = args[place[0]] if len(args) > place[0] else kwargs.get(place[1])
        return found[0], found[1]
