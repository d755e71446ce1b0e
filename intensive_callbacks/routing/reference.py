"""A model's routing beside that of a reference checkpoint of it: saturation, and which experts go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.metrics import ExpertCoactivation, RouterSaturation
from intensive_callbacks.routing.observer import RouterObserver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from intensive_callbacks.routing.sample import RouterSample


@dataclass(frozen=True)
class RoutingComparison:
    """One layer of a model beside the same layer of its reference.

    Attributes:
        saturation: the mean share of a token's experts that the reference selects for it, too.
        coactivation: ``[E, E]``, of the tokens of expert i the share that expert j received as well.
        reference_coactivation: the same of the reference.
    """

    saturation: Tensor
    coactivation: Tensor
    reference_coactivation: Tensor


def compare_routing(model: nn.Module, reference: nn.Module, batches: Iterable[Any]) -> dict[str, RoutingComparison]:
    """Run two checkpoints of one model on the same batches and compare what their routers decide.

    Both run as they are, without gradients: set them to ``eval()`` where noise would differ.

    Args:
        model: the model.
        reference: another checkpoint of it, with the same layers.
        batches: what the models are called with; a mapping gives named arguments, a tuple positional ones.

    Returns:
        The comparison of each layer that selects experts, by its name.

    Raises:
        ValueError: if the two models do not have the same routers.

    Source:
        Muennighoff et al., "OLMoE", arXiv 2409.02060, section 5.

    Example:
        >>> class Block(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.gate = torch.nn.Linear(8, 4)
        ...         self.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(4))
        ...     def forward(self, x):
        ...         weights, ids = self.gate(x).softmax(-1).topk(2)
        ...         return sum((weights * (ids == e)).sum(-1, True) * self.experts[e](x) for e in range(4))
        >>> model = torch.nn.Sequential(Block())
        >>> batch = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
        >>> compare_routing(model, model, [batch])["0"].saturation
        tensor(1.)
    """
    ours: dict[str, RouterSample] = {}
    theirs: dict[str, RouterSample] = {}
    observers = [_observer(model, ours), _observer(reference, theirs)]
    layers, others = ({layer.name: layer.num_experts for layer in observer.layers} for observer in observers)
    if layers != others:
        raise ValueError(f"the models must have the same routers; one has {layers}, the reference {others}")
    saturation: dict[str, RouterSaturation] = {}
    coactivation: dict[str, tuple[ExpertCoactivation, ExpertCoactivation]] = {}
    for batch in batches:
        for observer in observers:
            with observer, torch.no_grad():
                _call(observer.model, batch)
        for name in layers:
            pair = ours[name], theirs[name]
            ids, reference_ids = (sample.expert_ids for sample in pair)
            if ids is None or reference_ids is None:
                continue
            num_experts, device = pair[0].num_experts, ids.device
            saturation.setdefault(name, RouterSaturation().to(device)).update(
                ids, reference_ids.to(device), pair[0].mask
            )
            counters = (ExpertCoactivation(num_experts).to(device), ExpertCoactivation(num_experts).to(device))
            for sample, counter in zip(pair, coactivation.setdefault(name, counters), strict=True):
                if sample.expert_ids is not None:
                    counter.update(sample.expert_ids.to(device), sample.mask)
    return {
        name: RoutingComparison(metric.compute(), *(counter.compute() for counter in coactivation[name]))
        for name, metric in saturation.items()
    }


def _observer(model: nn.Module, samples: dict[str, RouterSample]) -> RouterObserver:
    return RouterObserver(model, on_sample=lambda sample: samples.update({sample.layer: sample}))


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    else:
        model(*(batch if isinstance(batch, tuple) else (batch,)))
