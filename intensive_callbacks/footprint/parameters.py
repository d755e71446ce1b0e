"""Number of parameters of a model, in total and used by one token, under each convention in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from intensive_callbacks.boundary import Boundary, warn
from intensive_callbacks.footprint.expert_sizes import active_sizes, expert_keys, num_holders, num_rows
from intensive_callbacks.footprint.memory import local_bytes, resident_bytes
from intensive_callbacks.footprint.parameter_kinds import embeddings
from intensive_callbacks.footprint.weights import Weights
from intensive_callbacks.routing.discovery import discover

if TYPE_CHECKING:
    from collections.abc import Iterable

    from intensive_callbacks.routing.discovery import MoELayer

__all__ = ["ParameterCount", "count_parameters", "parameter_fingerprint"]

CONVENTIONS = ("active", "active_without_input_embedding", "active_without_embeddings")


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model, each element once.

    Publishers mean different things by "active", so there are three figures.

    Attributes:
        total: all parameters.
        active: parameters that one token uses: all except those of experts that it is not sent to, and of adapters or
            replaced modules (PEFT) that are not in use.
        active_without_input_embedding: active parameters without the input embedding; a table that is also the output
            head is included.
        active_without_embeddings: active parameters without input embedding and output head.
        routed: parameters of all routed experts.
        shared: parameters of blocks with routed experts that every token uses, without the router: shared experts.
        router: parameters of the routers.
        embedding: parameters of the input embedding and the output head; once where they are tied.
        trainable: parameters that require a gradient.
        num_bytes: bytes of the weights: parameters, buffers, and the scales of quantized weights.
        num_local_bytes: those of them that this process holds.
    """

    total: int
    active: int
    active_without_input_embedding: int
    active_without_embeddings: int
    routed: int
    shared: int
    router: int
    embedding: int
    trainable: int
    num_bytes: int
    num_local_bytes: int = 0

    def convention(self, published: float) -> str:
        """The convention whose figure is nearest to a published number of active parameters.

        Raises:
            ValueError: if it is more than 5 % from all three.

        Example:
            >>> count_parameters(nn.Linear(10, 5)).convention(54)
            'active'
        """
        name = min(CONVENTIONS, key=lambda name: abs(getattr(self, name) - published))
        if abs(getattr(self, name) - published) > 0.05 * published:
            figures = ", ".join(f"{name} {getattr(self, name)}" for name in CONVENTIONS)
            raise ValueError(f"{published:g} active parameters follow none of the conventions: {figures}")
        return name


def parameter_fingerprint(model: nn.Module) -> tuple[int, int]:
    """Number of parameter tensors and of their elements; while neither changes, earlier counts remain valid.

    Much cheaper than a count, so it can be computed at every logging step. Shared tensors count once for each place; a
    lazy parameter has no elements yet.

    Example:
        >>> parameter_fingerprint(nn.Linear(10, 5))
        (2, 55)
    """
    parameters: list[Tensor | None] = []
    modules: list[nn.Module | None] = [model]
    walked: set[nn.Module] = set()
    for module in modules:  # which grows meanwhile
        if module is None:
            continue
        if children := module._modules:  # noqa: SLF001 - named_parameters() is seven times slower
            if module in walked:  # a module may hold its parent
                continue
            walked.add(module)
            modules.extend(children.values())
        if own := module._parameters:  # noqa: SLF001 - named_parameters() is seven times slower
            parameters.extend(own.values())
    present = [parameter for parameter in parameters if parameter is not None]
    try:
        return len(present), sum(map(Tensor.numel, present))
    except ValueError:  # of a lazy one
        return len(present), sum(parameter.numel() for parameter in present if not is_lazy(parameter))


def count_parameters(
    model: nn.Module,
    *,
    num_experts_per_token: float | Mapping[str, float] | None = None,
    boundary: Boundary | None = None,
) -> ParameterCount:
    """Count a model's parameters: in total, by kind, and active under the three conventions.

    Works from shapes alone, so the model may be on the meta device. Tied parameters count once, sharded ones (FSDP2,
    tensor and expert parallelism) at full size, also experts of which each process simply holds some, quantized ones by
    their logical elements: torchao, torch.ao, bitsandbytes, HQQ, compressed-tensors, GPTQ, AWQ and MXFP4 are known. A
    packed weight of another kind is a warning. Experts and routers are those that
    :func:`intensive_callbacks.routing.discovery.discover` finds.

    Args:
        model: any module; a model wrapped in FSDP1 or ZeRO-3 must be counted before it is wrapped.
        num_experts_per_token: distinct routed experts that compute for a token, measured, for all layers or by the name
            of the layer; ``None`` takes the model's own top-k.
        boundary: where failures of the model's own methods are reported; by default one of its own, which warns.

    Raises:
        ValueError: if the model has parameters that are lazy, or sharded by FSDP1 or ZeRO-3, a name is no layer with
            experts, or a number of experts is below 0 or above those there are.

    Source:
        The conventions are those of published models' cards; DeepSeek-V3's 37B leaves the input embedding out,
        Mixtral's 12.9B nothing, MiniMax's 45.9B both embeddings.

    Example:
        >>> count_parameters(nn.Linear(10, 5)).total
        55
    """
    _refuse_unready(model)
    weights = Weights(model)
    if weights.unknown:
        warn(
            f"{', '.join(weights.unknown[:3])} ({len(weights.unknown)} in all) hold packed weights of unknown number; "
            "they count as the integers that are stored, so the parameters are too few. Count the model before it is "
            "quantized",
            UserWarning,
            stacklevel=2,
        )
    layers = discover(model)
    experts_of = _experts_per_token(layers, num_experts_per_token)
    active = active_sizes(model, weights)
    routed: set[int] = set()
    copies: dict[int, int] = {}  # of each weight of an expert, those of its size on other processes included
    for layer in layers:
        for key in expert_keys(layer, weights) - routed:
            active[key] *= experts_of[layer.name] / num_rows(layer, weights.shapes[key])
            routed.add(key)
            copies[key] = num_holders(layer)
    sizes = {key: size * copies.get(key, 1) for key, size in weights.sizes.items()}
    elsewhere = [p for p in model.parameters() if copies.get(id(p), 1) > 1]
    router = {id(parameter) for layer in layers for parameter in layer.router_parameters()}
    router = (router | weights.of(*(layer.router for layer in layers))) - routed
    in_blocks = weights.of(*(layer.block for layer in layers))
    lookup, head = (weights.of(*modules) for modules in embeddings(model, boundary or Boundary()))

    def size(keys: Iterable[int], elements: Mapping[int, float] = sizes) -> int:
        return round(sum(elements[key] for key in keys))

    return ParameterCount(
        total=size(sizes),
        active=size(active, active),
        active_without_input_embedding=size(active.keys() - (lookup - head), active),
        active_without_embeddings=size(active.keys() - (lookup | head), active),
        routed=size(routed),
        shared=size(in_blocks - routed - router),
        router=size(router),
        embedding=size(lookup | head),
        trainable=size(id(parameter) for parameter in model.parameters() if parameter.requires_grad),
        num_bytes=resident_bytes(model) + sum((copies[id(p)] - 1) * p.nbytes for p in elsewhere),
        num_local_bytes=local_bytes(model),
    )


def sharded_by(model: nn.Module) -> str | None:
    """What has left this process a share of the parameters, under their names: ``"FSDP1"`` or ``"ZeRO-3"``."""
    parameters = [p for p in model.parameters() if not is_lazy(p)]
    if any(getattr(p, "ds_numel", p.numel()) != p.numel() for p in parameters):
        return "ZeRO-3"
    # FSDP2 marks its modules as the first one does, but its parameters are DTensors of full size.
    if any(hasattr(p, "full_tensor") for p in parameters):
        return None
    around = any(
        type(module).__name__ == "FullyShardedDataParallel" or getattr(module, "_is_fsdp_managed_module", False)
        for module in model.modules()
    )
    return "FSDP1" if around else None


def _refuse_unready(model: nn.Module) -> None:
    """Raise if the shapes of some parameters are not known."""
    if sharder := sharded_by(model):
        raise ValueError(
            f"{sharder} shows only this rank's shard of the parameters; count the model, or make the Monitor before it "
            "is wrapped"
        )
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name!r} is lazy and has no shape yet; run one batch through the model first")


def _experts_per_token(layers: list[MoELayer], given: float | Mapping[str, float] | None) -> dict[str, float]:
    """Distinct experts per token of each layer: as given, else by the model's design."""
    measured = given if isinstance(given, Mapping) else {} if given is None else {layer.name: given for layer in layers}
    unknown = measured.keys() - {layer.name for layer in layers}
    if unknown:
        raise ValueError(
            f"num_experts_per_token names {sorted(unknown)}, but layers with experts are {[la.name for la in layers]}"
        )
    chosen: dict[str, float] = {}
    for layer in layers:
        num_selected = measured.get(layer.name, layer.num_experts_per_token)
        if num_selected is None:
            warn(
                f"{layer.name} does not say how many experts a token is sent to: all {layer.num_experts} count as "
                "active; pass num_experts_per_token",
                UserWarning,
                stacklevel=3,
            )
            num_selected = layer.num_experts
        if not 0 <= num_selected <= layer.num_experts + layer.num_zero_experts:
            raise ValueError(
                f"num_experts_per_token must lie in [0, {layer.num_experts}] for {layer.name}, got {num_selected}"
            )
        chosen[layer.name] = num_selected
    return chosen
