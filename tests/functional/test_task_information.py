import math

import pytest
import torch
from scipy.stats import entropy

from intensive_callbacks import TaskInformation
from intensive_callbacks.functional import (
    task_information,
)


def test_task_information_of_perfect_and_of_uniform_predictions():
    target = torch.tensor([0, 0, 1, 2, 2, 2, 3, 3])
    entropy_of_labels = entropy([2, 1, 3, 2], base=2)
    perfect = 100.0 * torch.nn.functional.one_hot(target, 4)
    assert task_information(perfect, target).item() == pytest.approx(entropy_of_labels)
    assert task_information(torch.zeros(8, 4), target).item() == pytest.approx(entropy_of_labels - 2)
    assert task_information(perfect, target, num_dimensions=8).item() == pytest.approx(entropy_of_labels / 8)


def test_task_information_agrees_with_torch_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(5, (50,), generator=generator)
    target[::7] = -100
    metric = TaskInformation(num_classes=5)
    metric.update(logits, target)
    loss = torch.nn.functional.cross_entropy(logits, target, ignore_index=-100).item()
    counts = target[target >= 0].bincount()
    assert metric.compute().item() == pytest.approx(entropy(counts, base=2) - loss / math.log(2))
