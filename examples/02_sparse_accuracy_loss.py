"""Train a gate to switch units off: the sparsity-adjusted accuracy as a loss, the one it was written as, and L1.

A classifier of handwritten digits has 64 hidden units, each behind a gate that it learns. Each loss gets the same
cross-entropy, the same start and the same data; a unit is active where its gate is open more than half. Every loss has
one weight to choose, and a different weight is another point on its curve: the table shows two of each.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from intensive_callbacks import SparsityAdjustedAccuracy
from intensive_callbacks.losses import SparseAccuracyLoss


class GatedClassifier(nn.Module):
    def __init__(self, num_units: int = 64) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, num_units), nn.Linear(num_units, 10)
        self.gate = nn.Parameter(torch.ones(num_units))

    def openness(self) -> Tensor:
        """The probability that each unit's gate is open."""
        return self.gate.sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        openness = self.openness()
        # Forward: open or shut. Backward: the gradient of the probability (straight-through).
        is_open = (openness > 0.5).float() + openness - openness.detach()
        return self.head(self.hidden(images).relu() * is_open)


def counted_loss(logits: Tensor, target: Tensor, active_ratio: Tensor, alpha: float) -> Tensor:
    """As the metric's source writes it: correct answers and open gates are counted, so no gradient flows back."""
    accuracy = (logits.argmax(1) == target).float().mean()
    return cross_entropy(logits, target) - alpha * accuracy * (1 - (active_ratio > 0.5).float().mean())


def train(loss: str, alpha: float, images: Tensor, target: Tensor) -> GatedClassifier:
    torch.manual_seed(0)
    model = GatedClassifier()
    sparse = SparseAccuracyLoss(alpha)
    weights = [*model.hidden.parameters(), *model.head.parameters()]
    optimizer = torch.optim.Adam([{"params": weights}, {"params": [model.gate], "lr": 0.02}], lr=0.01)
    for _ in range(400):
        logits, openness = model(images), model.openness()
        if loss == "SparseAccuracyLoss":
            value = sparse(logits, target, openness.mean())
        elif loss == "L1 of the gate":
            value = cross_entropy(logits, target) + alpha * openness.mean()
        else:
            value = counted_loss(logits, target, openness, alpha)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return model


@torch.no_grad()
def measure(model: GatedClassifier, images: Tensor, target: Tensor) -> tuple[float, float, float]:
    """Accuracy, active ratio and their SAA."""
    is_open = (model.openness() > 0.5).float()
    accuracy = (model(images).argmax(1) == target).float().mean().item()
    per_unit = model.hidden.in_features + 1 + model.head.out_features
    saa = SparsityAdjustedAccuracy(total_params=64 * per_unit, active_params=is_open.sum().item() * per_unit)
    saa.update(accuracy, num_examples=len(target))
    return accuracy, is_open.mean().item(), saa.compute().item()


def main() -> list[tuple[str, float, float, float, float]]:
    bunch = load_digits()
    images, target = torch.tensor(bunch.data / 16).float(), torch.tensor(bunch.target)
    rows = [
        (loss, alpha, *measure(train(loss, alpha, images[:1200], target[:1200]), images[1200:], target[1200:]))
        for loss in ("counted, as in the source", "L1 of the gate", "SparseAccuracyLoss")
        for alpha in (0.3, 1.0)
    ]
    print(f"{'loss':<26} {'alpha':>5} {'accuracy':>9} {'active':>7} {'SAA':>6}")
    for loss, alpha, accuracy, active, saa in rows:
        print(f"{loss:<26} {alpha:>5} {accuracy:>9.3f} {active:>7.2f} {saa:>6.3f}")
    print("\nThe counted penalty changes nothing. The two with a gradient close most gates, about equally well.")
    return rows


if __name__ == "__main__":
    main()
