"""A wrong argument gives NaN, or an error that names an argument; never one from inside torch."""

import inspect
import math
import re
import warnings

import pytest
import torch

from functional.calls import CALLS
from intensive_callbacks import functional

WRONG_TENSORS = [
    torch.tensor(3),
    torch.tensor(0.5),
    torch.zeros(0),
    torch.zeros(0, 0),
    torch.zeros(0, dtype=torch.int64),
    torch.rand(7),
    torch.rand(5, 4),
    torch.arange(20).reshape(5, 4),
    torch.rand(2, 8, 8),
    torch.ones(2, 3, 4, 5),
    torch.full((6,), 9),
    torch.full((2, 2), 9),
    -torch.ones(2, 2),
    torch.tensor([[math.nan, math.inf], [1.0, 2.0]]),
]
WRONG_NUMBERS = [10**400, -(10**400), math.nan, math.inf, -1, 0]
FUNCTIONS = {name for name in dir(functional) if inspect.isfunction(getattr(functional, name))}


def complaint(name, arguments):
    """What is wrong with the answer, if anything."""
    function = getattr(functional, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**arguments)
    except (ValueError, TypeError) as error:
        named = any(re.search(rf"\b{parameter}\b", str(error)) for parameter in inspect.signature(function).parameters)
        return None if named else f"a message that names no argument: {error}"
    except Exception as error:  # noqa: BLE001 - what a user must not meet
        return repr(error)[:150]
    return None


def test_every_public_function_has_a_call():
    assert set(CALLS) == FUNCTIONS


def wrong_values(value):
    if isinstance(value, torch.Tensor):
        return {f"{tuple(each.shape)} {each.dtype}": each for each in WRONG_TENSORS}
    if isinstance(value, float):
        return {str(each)[:20]: each for each in WRONG_NUMBERS}
    return {str(each): each for each in (-1, 0)} if isinstance(value, int) else {}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_argument_is_named(name):
    right = CALLS[name]
    assert complaint(name, right) is None
    found = {
        f"{argument} {described}": complaint(name, {**right, argument: each})
        for argument, value in right.items()
        if name != "empirical_ntk"  # what the user's own model says of its inputs is the user's
        for described, each in wrong_values(value).items()
    }
    found = {wrong: said for wrong, said in found.items() if said}
    assert not found, "\n" + "\n".join(f"{wrong}: {said}" for wrong, said in found.items())
