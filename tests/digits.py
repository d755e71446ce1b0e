"""The quickstart's own model and data, for tests that train."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


quickstart = load_example("00_quickstart")
DigitsClassifier = quickstart.DigitsClassifier
MixtureOfExperts = quickstart.MixtureOfExperts
DigitsClassifier.__module__ = MixtureOfExperts.__module__ = __name__  # where a spawned process finds them


def digits(start: int = 0, stop: int = 320) -> TensorDataset:
    bunch = load_digits()
    return TensorDataset(torch.tensor(bunch.data[start:stop] / 16).float(), torch.tensor(bunch.target[start:stop]))


def loaders(batch_size: int = 32, num_train: int = 320, num_val: int = 96):
    train = DataLoader(digits(0, num_train), batch_size, shuffle=True)
    return train, DataLoader(digits(num_train, num_train + num_val), 40)
