"""Mixtures of experts as people write them in torch alone; each notes which expert really computed which token."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

D, E, K = 16, 6, 2


class Noted(nn.Module):
    """Base: ``self.compute(e, x, tokens)`` is the only way a design may use an expert, and it is written down."""

    def __init__(self):
        super().__init__()
        self.pairs = set()

    def note(self, expert, tokens):
        if not torch.compiler.is_compiling():
            self.pairs |= {(int(t), int(expert)) for t in torch.as_tensor(tokens).flatten()}

    def loop(self, x, ids, weights):
        """The usual loop over experts."""
        out = torch.zeros_like(x)
        for e in range(E):
            tokens, slots = torch.where(ids == e)
            self.note(e, tokens)
            out = out.index_add(0, tokens, self.expert(e, x[tokens]) * weights[tokens, slots, None])
        return out


def mlps(number=E):
    return nn.ModuleList(nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, D)) for _ in range(number))


class LinearGate(Noted):
    """A Linear and a list."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, E, bias=False)
        self.experts = mlps()

    def expert(self, e, x):
        return self.experts[e](x)

    def route(self, x):
        weights, ids = self.gate(x).softmax(-1).topk(K, dim=-1)
        return weights / weights.sum(-1, keepdim=True), ids

    def forward(self, x):
        flat = x.reshape(-1, D)
        weights, ids = self.route(flat)
        return self.loop(flat, ids, weights).view_as(x)


class Top1(LinearGate):
    """argmax, and the weight gathered."""

    def route(self, x):
        p = F.softmax(self.gate(x), dim=-1)
        ids = torch.argmax(p, dim=-1)
        return p.gather(-1, ids[:, None]), ids[:, None]


class Sorted(LinearGate):
    """A full sort, cut to k."""

    def route(self, x):
        p, order = torch.sort(self.gate(x).softmax(-1), dim=-1, descending=True)
        return p[..., :K], order[..., :K]


class Biased(LinearGate):
    """Sigmoid scores, a correction bias, groups: what is selected is not the top of the scores."""

    def __init__(self):
        super().__init__()
        self.register_buffer("bias", torch.randn(E))

    def route(self, x):
        scores = self.gate(x).sigmoid()
        choice = scores + self.bias
        groups = choice.view(-1, 3, E // 3).sum(-1).topk(2, dim=-1).indices
        allowed = (
            torch.zeros(len(x), 3, dtype=torch.bool).scatter(1, groups, value=True).repeat_interleave(E // 3, dim=1)
        )
        ids = choice.masked_fill(~allowed, -torch.inf).topk(K, dim=-1, sorted=False).indices
        weights = scores.gather(1, ids)
        return weights / weights.sum(-1, keepdim=True), ids


class Noisy(LinearGate):
    """Shazeer's noisy top-k."""

    def __init__(self):
        super().__init__()
        self.w_noise = nn.Linear(D, E, bias=False)

    def route(self, x):
        logits = self.gate(x) + torch.randn(len(x), E) * F.softplus(self.w_noise(x))
        top, ids = torch.topk(logits, K)
        return top.softmax(-1), ids


class Sampled(LinearGate):
    """Experts drawn, not chosen."""

    def route(self, x):
        p = self.gate(x).softmax(-1)
        ids = torch.multinomial(p, K)
        return p.gather(-1, ids), ids


class Fused(Noted):
    """Experts in two parameters of the block, which routes with a matrix of its own."""

    def __init__(self):
        super().__init__()
        self.router_weight = nn.Parameter(torch.randn(D, E))
        self.w1 = nn.Parameter(torch.randn(E, D, 8) * 0.1)
        self.w2 = nn.Parameter(torch.randn(E, 8, D) * 0.1)

    def expert(self, e, x):
        return torch.relu(x @ self.w1[e]) @ self.w2[e]

    def forward(self, x):
        flat = x.reshape(-1, D)
        weights, ids = torch.topk((flat @ self.router_weight).softmax(-1), K)
        return self.loop(flat, ids, weights).view_as(x)


class FunctionalLinear(LinearGate):
    """The gate's weight is used, the gate is not called."""

    def route(self, x):
        return F.linear(x, self.gate.weight).softmax(-1).topk(K)


class Capacity(LinearGate):
    """Switch: top-1, places counted in order, and what overflows is dropped."""

    def forward(self, x):
        flat = x.reshape(-1, D)
        capacity = len(flat) // E
        p = self.gate(flat).softmax(-1)
        weight, ids = p.max(dim=-1)
        chosen = F.one_hot(ids, E)
        place = (chosen.cumsum(0) - 1) * chosen
        kept = chosen * (place < capacity)
        dispatch = kept[..., None] * F.one_hot(place.clamp(max=capacity - 1), capacity)
        for e in range(E):
            self.note(e, dispatch[:, e].any(-1).nonzero())
        inputs = torch.einsum("tec,td->ecd", dispatch.to(flat.dtype), flat)
        outputs = torch.stack([self.experts[e](inputs[e]) for e in range(E)])
        return torch.einsum("tec,ecd->td", dispatch * weight[:, None, None], outputs).view_as(x)


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(E, D))

    def forward(self, x):
        return F.linear(x, self.weight).softmax(-1).topk(K)


class RoutedCapacity(LinearGate):
    """A router module returns the ids, and the block drops what overflows."""

    def __init__(self):
        super().__init__()
        self.gate = Router()

    def forward(self, x):
        flat = x.reshape(-1, D)
        capacity = len(flat) * K // E
        weights, ids = self.gate(flat)
        chosen = F.one_hot(ids, E).sum(1)
        place = (chosen.cumsum(0) - 1) * chosen
        kept = chosen * (place < capacity)
        dispatch = kept[..., None] * F.one_hot(place.clamp(max=capacity - 1), capacity)
        for e in range(E):
            self.note(e, dispatch[:, e].any(-1).nonzero())
        inputs = torch.einsum("tec,td->ecd", dispatch.to(flat.dtype), flat)
        outputs = torch.stack([self.experts[e](inputs[e]) for e in range(E)])
        gates = torch.zeros(len(flat), E).scatter(-1, ids, weights)
        return torch.einsum("tec,ecd->td", dispatch * gates[..., None], outputs).view_as(x)


class Competing(nn.Module):
    """An expert that makes a selection of its own, among as many features as there are experts."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(D, E)
        self.down = nn.Linear(E, D)

    def forward(self, x):
        hidden = self.up(x)
        winner = hidden.argmax(-1, keepdim=True)
        _, order = hidden.sort(-1)
        order = order[..., :K]
        return self.down(torch.zeros_like(hidden).scatter(-1, torch.cat([winner, order], -1), 1.0) * hidden)


class Unused(LinearGate):
    """The first experts never have a token, are not called then, and experts select, too."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(Competing() for _ in range(E))

    def route(self, x):
        scores = self.gate(x)
        scores = torch.cat([torch.full_like(scores[:, :2], -9.0), scores[:, 2:]], -1)
        return scores.softmax(-1).topk(K)

    def expert(self, e, x):
        return self.experts[e](x) if len(x) else x


class ExpertChoice(LinearGate):
    """The experts choose their tokens."""

    def forward(self, x):
        flat = x.reshape(-1, D)
        p = self.gate(flat).softmax(-1)
        weights, tokens = torch.topk(p.T, len(flat) * K // E, dim=-1)
        out = torch.zeros_like(flat)
        for e in range(E):
            self.note(e, tokens[e])
            out = out.index_add(0, tokens[e], self.experts[e](flat[tokens[e]]) * weights[e, :, None])
        return out.view_as(x)


class Hashed(Noted):
    """A fixed table assigns token ids."""

    def __init__(self):
        super().__init__()
        self.experts = mlps()
        self.register_buffer("assignment", torch.randint(0, E, (50,)))

    def expert(self, e, x):
        return self.experts[e](x)

    def forward(self, x, token_ids):
        flat = x.reshape(-1, D)
        ids = self.assignment[token_ids].reshape(-1, 1)
        return self.loop(flat, ids, torch.ones(len(flat), 1)).view_as(x)


class Heads(Noted):
    """Attention whose query projections are the experts."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, E)
        self.query_experts = nn.Parameter(torch.randn(E, D, D) * 0.1)
        self.kv = nn.Linear(D, 2 * D)

    def expert(self, e, x):
        return x @ self.query_experts[e]

    def forward(self, x):
        weights, ids = self.gate(x.reshape(-1, D)).softmax(-1).topk(K)
        query = self.loop(x.reshape(-1, D), ids, weights).view_as(x)
        key, value = self.kv(x).chunk(2, -1)
        return F.scaled_dot_product_attention(query, key, value)


class Soft(Noted):
    """Every expert gets mixtures of all tokens: there is nothing to count, but there are probabilities."""

    def __init__(self):
        super().__init__()
        self.phi = nn.Parameter(torch.randn(D, E * 2))
        self.experts = mlps()

    def forward(self, x):
        flat = x.reshape(-1, D)
        logits = flat @ self.phi
        slots = (logits.softmax(0).T @ flat).view(E, 2, D)
        out = torch.stack([expert(slot) for expert, slot in zip(self.experts, slots, strict=True)])
        self.combine = logits.softmax(-1)
        return (self.combine @ out.view(-1, D)).view_as(x)


class MegablocksRouter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(D, E, bias=False)

    def forward(self, x):
        scores = self.layer(x.view(-1, D)).softmax(-1)
        return scores, *torch.topk(scores, K, dim=-1)


class MegablocksExperts(Noted):
    """Weights one below the other; called with scores, weights and ids."""

    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(E * 8, D) * 0.1)
        self.w2 = nn.Parameter(torch.randn(E * 8, D) * 0.1)

    def expert(self, e, x):
        return torch.relu(x @ self.w1.view(E, 8, D)[e].T) @ self.w2.view(E, 8, D)[e]

    def forward(self, x, scores, expert_weights, top_experts):
        return self.loop(x.reshape(-1, D), top_experts, expert_weights).view_as(x)


class Megablocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = MegablocksRouter()
        self.experts = MegablocksExperts()

    @property
    def pairs(self):
        return self.experts.pairs

    def forward(self, x):
        return self.experts(x, *self.router(x))


class DeepSpeedGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.wg = nn.Linear(D, E, bias=False)

    def forward(self, x):
        gates = self.wg(x.float()).softmax(-1)
        capacity = len(x) // E
        mask = F.one_hot(gates.argmax(-1), E)
        place = mask.cumsum(0) - 1
        mask = mask * (place < capacity)
        combine = (gates * mask)[..., None] * F.one_hot((place * mask).sum(-1), capacity)[:, None]
        loss = (gates.mean(0) * mask.float().mean(0)).sum() * E
        return loss, combine, combine.bool(), mask.sum(0)


class DeepSpeedExperts(nn.Module):
    def __init__(self):
        super().__init__()
        self.deepspeed_experts = mlps()

    def forward(self, inputs):
        return torch.stack([expert(x) for expert, x in zip(self.deepspeed_experts, inputs, strict=True)])


class DeepSpeed(Noted):
    def __init__(self):
        super().__init__()
        self.gate = DeepSpeedGate()
        self.experts = DeepSpeedExperts()

    def forward(self, x):
        flat = x.reshape(-1, D)
        self.loss, combine, dispatch, _ = self.gate(flat)
        for e in range(E):
            self.note(e, dispatch[:, e].any(-1).nonzero())
        inputs = torch.einsum("sec,sm->ecm", dispatch.type_as(flat), flat)
        return torch.einsum("sec,ecm->sm", combine.type_as(flat), self.experts(inputs)).view_as(x)


class TutelGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.wg = nn.Linear(D, E, bias=False)

    def forward(self, x):
        return self.wg(x)


class Tutel(Noted):
    """The gates only score; ids are cut out of one top-k, slot by slot."""

    def __init__(self):
        super().__init__()
        self.gates = nn.ModuleList([TutelGate()])
        self.experts = nn.Module()
        self.experts.batched_fc1_w = nn.Parameter(torch.randn(E, 8, D) * 0.1)
        self.experts.batched_fc2_w = nn.Parameter(torch.randn(E, 8, D) * 0.1)

    def expert(self, e, x):
        return torch.relu(x @ self.experts.batched_fc1_w[e].T) @ self.experts.batched_fc2_w[e]

    def forward(self, x):
        flat = x.reshape(-1, D)
        scores = F.softmax(self.gates[0](flat), dim=1)
        topk_indices = torch.topk(scores, K, dim=1).indices
        slots = [slot.view(-1) for slot in topk_indices.chunk(K, dim=1)]
        weights = [(scores * F.one_hot(slot, E)).sum(1) for slot in slots]
        return self.loop(flat, torch.stack(slots, 1), torch.stack(weights, 1)).view_as(x)


class TorchtitanRouter(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, E, bias=False)

    def forward(self, x, expert_bias):
        scores = torch.sigmoid(self.gate(x).to(torch.float32))
        _, ids = torch.topk(scores + expert_bias, k=K, dim=1)
        counts = torch.histc(ids.view(-1).float(), bins=E, min=0, max=E)
        return scores.gather(1, ids), ids, counts


class Torchtitan(Noted):
    """Tokens sorted by expert, experts called with counts."""

    def __init__(self):
        super().__init__()
        self.router = TorchtitanRouter()
        self.experts = nn.Module()
        self.experts.w1 = nn.Parameter(torch.randn(E, 8, D) * 0.1)
        self.experts.w2 = nn.Parameter(torch.randn(E, D, 8) * 0.1)
        self.register_buffer("expert_bias", torch.randn(E))

    def forward(self, x):
        flat = x.reshape(-1, D)
        scores, ids, counts = self.router(flat, self.expert_bias)
        order = torch.argsort(ids.view(-1), stable=True)
        tokens = order // K
        outputs = []
        for e, rows in enumerate(tokens.split(counts.int().tolist())):
            self.note(e, rows)
            outputs.append(torch.relu(flat[rows] @ self.experts.w1[e].T) @ self.experts.w2[e].T)
        return torch.zeros_like(flat).index_add(0, tokens, torch.cat(outputs) * scores.view(-1)[order][:, None])


DESIGNS = [
    LinearGate,
    Top1,
    Sorted,
    Biased,
    Noisy,
    Sampled,
    Fused,
    FunctionalLinear,
    Capacity,
    RoutedCapacity,
    Unused,
    ExpertChoice,
    Hashed,
    Heads,
    Megablocks,
    DeepSpeed,
    Tutel,
    Torchtitan,
]
