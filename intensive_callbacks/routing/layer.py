"""One mixture of experts of a model: its block, router and experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intensive_callbacks.routing.structure import own_parameters

if TYPE_CHECKING:
    from torch import nn
    from torch.nn import Parameter


@dataclass(frozen=True, eq=False)
class MoELayer:
    """One mixture of experts in a model.

    Attributes:
        name: the qualified name of ``block``, or of the module that the user's pattern matched.
        block: the module that holds router and experts.
        router: the module that scores the experts; ``None`` where the block does it with its own parameters or a table.
        experts: the modules that hold the experts' parameters; empty where these are parameters of ``block`` itself.
        num_experts: E, the routed experts; shared experts are not counted.
        num_experts_per_token: k by design, where the model or its config says so.
        num_zero_experts: further classes of the router, which compute nothing.
    """

    name: str
    block: nn.Module
    router: nn.Module | None
    experts: tuple[nn.Module, ...]
    num_experts: int
    num_experts_per_token: int | None = None
    num_zero_experts: int = 0

    @property
    def num_classes(self) -> int:
        """The classes of the router: the experts, and those that compute nothing."""
        return self.num_experts + self.num_zero_experts

    def expert_parameters(self) -> list[Parameter]:
        """The parameters of the routed experts."""
        if self.experts:
            return [parameter for module in self.experts for parameter in module.parameters()]
        own = own_parameters(self.block)
        return [parameter for _, parameter in own if parameter.dim() >= 3 and parameter.shape[0] == self.num_experts]

    def router_parameters(self) -> list[Parameter]:
        """The parameters that score the experts."""
        if self.router is not None:
            return list(self.router.parameters())
        routed = {id(parameter) for parameter in self.expert_parameters()}
        own = (parameter for _, parameter in own_parameters(self.block))
        return [p for p in own if id(p) not in routed and p.dim() >= 2 and self.num_experts in p.shape]
