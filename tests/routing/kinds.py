"""Layers whose decision is easily misread; each notes what its experts compute and what it dropped."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

D, E, K = 16, 4, 2


class Kind(nn.Module):
    """Base: a gate and a list of experts; ``pairs`` and ``num_dropped`` are the truth."""

    knows_k = False

    def __init__(self):
        super().__init__()
        if self.knows_k:
            self.top_k = K
        self.gate = nn.Linear(D, E)
        self.experts = nn.ModuleList(nn.Linear(D, D) for _ in range(E))
        self.pairs, self.num_dropped = [], 0

    def note(self, dispatch, num_dropped=0):
        """Write down ``[T, E]`` of what is computed, as load."""
        self.pairs.append(dispatch.reshape(-1, E).sum(0))
        self.num_dropped += num_dropped

    @property
    def load(self):
        return sum(self.pairs).tolist()

    def expert(self, e, x):
        return self.experts[e](x)

    def through(self, x, ids, weights):
        """Each expert gets its own tokens."""
        self.note(F.one_hot(ids, E).sum(1))
        out = torch.zeros_like(x)
        for e in range(E):
            token, slot = torch.where(ids == e)
            out = out.index_add(0, token, weights[token, slot, None] * self.expert(e, x[token]))
        return out

    def forward(self, x):
        return self.route(x.reshape(-1, D)).view_as(x)


class LoggedAfter(Kind):
    """An argmax for the balance loss after the top-2."""

    def route(self, x):
        p = self.gate(x).softmax(-1)
        weights, ids = p.topk(K)
        self.loss = (F.one_hot(p.argmax(-1), E).float().mean(0) * p.mean(0)).sum()
        return self.through(x, ids, weights)


class LoggedInTraining(LoggedAfter):
    """The same in training alone: evaluation decides by an argmax."""

    def route(self, x):
        if self.training:
            return super().route(x)
        weights, ids = self.gate(x).softmax(-1).max(-1)
        return self.through(x, ids[:, None], weights[:, None])


class LoggedBefore(Kind):
    """A sort for a histogram and a top-3 before the top-2, and an argmax while the experts run."""

    def route(self, x):
        p = self.gate(x).softmax(-1)
        self.ranks, self.third = p.sort(-1)[1], p.topk(3)[1]
        weights, ids = p.topk(K)
        self.first = p.max(-1).indices
        return self.through(x, ids, weights)


class Stacked(Kind):
    """Experts in one tensor, k known; the argmax is for a log."""

    knows_k = True

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(E, D, D) * 0.1)

    def expert(self, e, x):
        return x @ self.experts[e]

    route = LoggedAfter.route


class TwoPicks(Kind):
    """GShard's top-2: an argmax, then one of the rest."""

    def route(self, x):
        p = self.gate(x).softmax(-1)
        first = p.argmax(-1)
        second = p.masked_fill(F.one_hot(first, E).bool(), 0.0).argmax(-1)
        ids = torch.stack([first, second], -1)
        return self.through(x, ids, p.gather(-1, ids))


class TwoPicksStacked(Stacked):
    """The same with experts in one tensor."""

    route = TwoPicks.route


class Places(nn.Module):
    """A router that returns places in a buffer before the ids, in a container."""

    def __init__(self, container):
        super().__init__()
        self.w, self.container = nn.Linear(D, E), container

    def forward(self, x):
        weights, ids = self.w(x).softmax(-1).topk(K)
        chosen = F.one_hot(ids.flatten(), E)
        places = ((chosen.cumsum(0) * chosen).sum(-1) - 1).view_as(ids)
        return self.container(weights, places % E, chosen.sum(0), ids)


class TupleOut(Kind):
    """(weights, places, histogram, ids)."""

    container = staticmethod(lambda *parts: parts)

    def __init__(self):
        super().__init__()
        self.gate = Places(self.container)

    def route(self, x):
        weights, _, _, ids = self.gate(x)
        return self.through(x, ids, weights)


class ListOut(TupleOut):
    """[places, ids, weights]."""

    container = staticmethod(lambda weights, places, histogram, ids: [places, ids, weights])

    def route(self, x):
        _, ids, weights = self.gate(x)
        return self.through(x, ids, weights)


class DictOut(TupleOut):
    """By names."""

    container = staticmethod(lambda weights, places, histogram, ids: {"slot": places, "w": weights, "e": ids})

    def route(self, x):
        out = self.gate(x)
        return self.through(x, out["e"], out["w"])


class Dense(Kind):
    """Every expert for every token."""

    def weigh(self, x):
        return self.gate(x).softmax(-1)

    def route(self, x):
        weights = self.weigh(x)
        self.note(weights != 0)
        return sum(weights[:, e, None] * self.expert(e, x) for e in range(E))


class DenseLogged(Dense):
    """Every expert, and an argmax for a log."""

    def weigh(self, x):
        weights = super().weigh(x)
        self.used = weights.argmax(-1).bincount(minlength=E)
        return weights


class DenseGated(Dense):
    """A sigmoid for each expert."""

    def weigh(self, x):
        return self.gate(x).sigmoid()


class DenseRectified(Dense):
    """ReMoE: those whose score is above 0."""

    def weigh(self, x):
        return self.gate(x).relu()


class DenseThreshold(Dense):
    """Those whose probability is above a threshold."""

    def weigh(self, x):
        p = self.gate(x).softmax(-1)
        return torch.where(p > 0.25, p, torch.zeros_like(p))


class DenseTimesMask(Dense):
    """Probabilities times a comparison."""

    def weigh(self, x):
        p = self.gate(x).softmax(-1)
        return p * (p > 0.25)


class DenseMasked(Dense):
    """All experts compute, two count."""

    def weigh(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(K)
        return torch.zeros(len(x), E).scatter(-1, ids, weights)


class DenseStacked(Dense):
    """Every expert for every token, in one product."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(E, D, D) * 0.1)

    def route(self, x):
        weights = self.weigh(x)
        self.note(weights != 0)
        return torch.einsum("te,teh->th", weights, torch.einsum("td,edh->teh", x, self.experts))


class Threshold(Kind):
    """As many experts as are above a threshold, which get their own tokens."""

    def route(self, x):
        p = self.gate(x).softmax(-1)
        chosen = p > 0.25
        self.note(chosen)
        out = torch.zeros_like(x)
        for e in range(E):
            token = chosen[:, e].nonzero()[:, 0]
            out = out.index_add(0, token, p[token, e, None] * self.expert(e, x[token]))
        return out


class Places4d(Kind):
    """GShard: a mask [B, N, E, C]."""

    equations = "bnd,bnec->becd", "becd,bnec->bnd"

    def forward(self, x):
        _, ids = self.gate(x).softmax(-1).topk(1)
        chosen = F.one_hot(ids[..., 0], E)
        place = chosen.cumsum(1) * chosen - 1
        mask = (F.one_hot(place.clamp_min(0), x.shape[1])[..., :3] * chosen[..., None]).float()
        self.note(mask.sum(-1), num_dropped=int(chosen.sum() - mask.sum()))
        mask = self.arrange(mask)
        inputs = self.multiply(self.equations[0], x, mask)
        outputs = torch.stack([self.expert(e, inputs.select(self.axis, e)) for e in range(E)], self.axis)
        return self.multiply(self.equations[1], outputs, mask)

    axis = 1

    def multiply(self, equation, values, mask):
        return torch.einsum(equation, values, mask)

    def arrange(self, mask):
        return mask


class PlacesFirst(Places4d):
    """The same as [B, N, C, E], the mask first."""

    equations = "bnce,bnd->bced", "bnce,bced->bnd"
    axis = 2

    def multiply(self, equation, values, mask):
        return torch.einsum(equation, mask, values)

    def arrange(self, mask):
        return mask.transpose(-1, -2)


class PlacesByProduct(Kind):
    """The mask is flattened and multiplied."""

    def route(self, x):
        capacity = len(x) // E
        weights, ids = self.gate(x).softmax(-1).topk(1)
        chosen = F.one_hot(ids[:, 0], E)
        place = chosen.cumsum(0) * chosen - 1
        mask = (F.one_hot(place.clamp_min(0), len(x))[..., :capacity] * chosen[..., None]).float()
        self.note(mask.sum(-1), num_dropped=int(chosen.sum() - mask.sum()))
        inputs = (mask.reshape(len(x), -1).T @ x).view(E, capacity, D)
        outputs = torch.stack([self.expert(e, inputs[e]) for e in range(E)])
        return (mask * weights[..., None]).reshape(len(x), -1) @ outputs.view(-1, D)


class Buffer(Kind):
    """Tokens are written into a buffer by their place; those that find none are lost without a mask."""

    def route(self, x):
        capacity = len(x) * K // E - 2
        weights, ids = self.gate(x).softmax(-1).topk(K)
        flat = ids.flatten()
        chosen = F.one_hot(flat, E)
        place = (chosen.cumsum(0) * chosen).sum(-1) - 1
        kept = (place < capacity).nonzero()[:, 0]
        self.note(chosen[kept], num_dropped=len(flat) - len(kept))
        buffer = torch.zeros(E, capacity, D).index_put((flat[kept], place[kept]), x[kept // K])
        outputs = torch.stack([self.expert(e, buffer[e]) for e in range(E)])
        gathered = outputs[flat[kept], place[kept]] * weights.flatten()[kept, None]
        return torch.zeros_like(x).index_add(0, kept // K, gathered)


class MaskOut(nn.Module):
    """Returns probabilities and a mask [T, E, C]; its k stands in a call alone."""

    def __init__(self):
        super().__init__()
        self.wg = nn.Linear(D, E)

    def forward(self, x):
        capacity = len(x) // E
        p = self.wg(x).softmax(-1)
        ids = p.topk(K).indices.T.flatten()
        chosen = F.one_hot(ids, E)
        place = (chosen.cumsum(0) * chosen).sum(-1) - 1
        kept = (place < capacity).nonzero()[:, 0]
        mask = torch.zeros(K * len(x), E, capacity, dtype=torch.bool)
        mask[kept, ids[kept], place[kept]] = True
        return p, mask.view(K, len(x), E, capacity).any(0)


class DropsOfAMask(Kind):
    """Drops of a router that states no k."""

    def __init__(self):
        super().__init__()
        self.gate = MaskOut()

    def route(self, x):
        p, mask = self.gate(x)
        self.note(mask.any(-1), num_dropped=K * len(x) - int(mask.sum()))
        inputs = torch.einsum("sec,sm->ecm", mask.float(), x)
        outputs = torch.stack([self.expert(e, inputs[e]) for e in range(E)])
        return torch.einsum("sec,ecm->sm", mask * p[..., None], outputs)


class BySequence(Kind):
    """Each sequence is routed by itself."""

    def forward(self, x):
        return torch.stack([self.route(sequence) for sequence in x])

    def route(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(K)
        return self.through(x, ids, weights)


class Flags(Kind):
    """Experts compute rows that are set to zero where they were not chosen."""

    def route(self, x):
        p = self.gate(x).softmax(-1)
        _ = p.argmax(-1)
        chosen = F.one_hot(p.topk(K).indices, E).sum(1)
        _ = p.topk(3)
        self.note(chosen)
        return sum(chosen[:, e, None] * p[:, e, None] * self.expert(e, x * chosen[:, e, None]) for e in range(E))


class SharedInside(Kind):
    """A shared expert for all tokens, in front."""

    def __init__(self):
        super().__init__()
        self.shared_expert = nn.Linear(D, D)

    def route(self, x):
        p = self.gate(x).sigmoid()
        weights, ids = p.topk(K)
        _ = p.argmax(-1)
        return self.shared_expert(x) + self.through(x, ids, weights)


KINDS = [each for each in vars().values() if isinstance(each, type) and issubclass(each, Kind) and each is not Kind]
