"""A small share of what tests/benchmarks/fuzz.py tries, the same at every run."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzing import ALLOWED, draw, outcome, targets

TARGETS = targets()
seeded = settings(max_examples=600, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32)


def tried(seed):
    rng = random.Random(seed)
    target = rng.choice(TARGETS)
    given = draw(rng, target)
    return target.name, *outcome(target, given)


@seeded
@given(seeds)
def test_random_input_is_a_value_nan_or_refused_by_name(seed):
    name, kind, detail = tried(seed)
    assert kind in ALLOWED, f"{name}: {detail}"
