"""Relevance by three ways of knowing, budgets of 64 to 400 tokens by relevance, and an encoder that spends them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from intensive_callbacks.functional import token_budgets

LEAST, GREATEST, TOTAL = 64, 400, 576


def propositional(patches: Tensor) -> Tensor:
    """Shannon entropy of each patch's gray levels, bits, ``[N, P]``."""
    levels = ((patches.flatten(2) + 1) * 8).long().clamp(0, 15)
    shares = F.one_hot(levels, 16).float().mean(2)
    return -torch.xlogy(shares, shares).sum(-1) / torch.log(torch.tensor(2.0))


def perspectival(patches: Tensor) -> Tensor:
    """Salience of each patch: its share of the image's edges, ``[N, P]``."""
    edges = patches.diff(dim=-1).abs().mean((-1, -2)) + patches.diff(dim=-2).abs().mean((-1, -2))
    return edges / edges.sum(1, keepdim=True)


class Participatory(nn.Module):
    """Pointwise information of a patch about the query, nats: log p(query given patch) / p(query), ``[N, P]``."""

    def __init__(self, num_queries: int = 4) -> None:
        super().__init__()
        self.texture = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, num_queries))
        self.num_queries = num_queries

    def forward(self, patches: Tensor, query: Tensor) -> Tensor:
        # Corners and margins show the texture; the digit lies in the middle.
        logits = self.head(self.texture(patches.flatten(0, 1)[:, None, :5])).unflatten(0, patches.shape[:2])
        chosen = logits.log_softmax(-1).gather(-1, query[:, None, None].expand(-1, patches.shape[1], 1))
        return chosen.squeeze(-1) + torch.log(torch.tensor(float(self.num_queries)))


class OpponentProcessing(nn.Module):
    """Weighs the three scores against each other, each standardized over the patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.tension = nn.Parameter(torch.zeros(3))

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Of scores ``[N, P, 3]``, the relevance ``[N, P]`` that sums to 1, and which score weighs most ``[N, P]``."""
        scores = (scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + 1e-6)
        weighed = 3 * self.tension.softmax(0) * scores
        return weighed.sum(-1).softmax(1), weighed.argmax(-1)


class Allocator(nn.Module):
    """Tokens for each patch: by relevance, all alike, or at random; always 576 for an image."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, relevance: Tensor, winner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.rule == "fixed":
            budgets = torch.full_like(relevance, TOTAL // relevance.shape[1]).long()
        else:
            quality = torch.rand_like(relevance) if self.rule == "random" else relevance.detach()
            quality = 1 - quality if self.rule == "inverse" else quality
            budgets = torch.stack([token_budgets(row, total=TOTAL) for row in quality])
        return relevance, budgets, winner


class Encoder(nn.Module):
    """64 coarse tokens of each patch, then as many of its finest pixels as the budget pays for."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.place = nn.Embedding(LEAST + 400, width)
        self.shift = nn.Embedding(LEAST + 400, width)
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.read = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, patches: Tensor, budgets: Tensor) -> Tensor:
        """Logits of the digit on each patch, ``[N, P, 10]``."""
        flat = patches.flatten(0, 1)
        coarse = F.adaptive_avg_pool2d(flat, 8)
        detail = (flat - F.interpolate(coarse[:, None], flat.shape[-2:])[:, 0]).flatten(1)
        order = detail.abs().argsort(1, descending=True)[:, : GREATEST - LEAST]
        values = torch.cat([coarse.flatten(1), flat.flatten(1).gather(1, order)], 1)
        places = torch.cat([torch.arange(LEAST).expand(len(flat), -1), LEAST + order], 1)
        patch, token = torch.where(torch.arange(GREATEST) < budgets.flatten()[:, None])
        place, value = places[patch, token], values[patch, token, None]
        tokens = self.mix((value * self.place(place) + self.shift(place)).relu())
        pooled = tokens.new_zeros(len(flat), tokens.shape[-1]).index_add(0, patch, tokens) / LEAST
        return self.read(pooled).unflatten(0, patches.shape[:2])


class ArrCoc(nn.Module):
    """The digit on the patch that the query asks for; ``rule`` is how tokens are allocated."""

    def __init__(self, rule: str = "direct") -> None:
        super().__init__()
        self.participatory, self.balance = Participatory(), OpponentProcessing()
        self.allocate, self.encode = Allocator(rule), Encoder()

    def forward(self, patches: Tensor, query: Tensor) -> Tensor:
        known = [propositional(patches), perspectival(patches), self.participatory(patches, query)]
        relevance, budgets, _ = self.allocate(*self.balance(torch.stack(known, -1)))
        digits = self.encode(patches, budgets).softmax(-1)
        return (relevance[..., None] * digits).sum(1).clamp_min(1e-9).log()
