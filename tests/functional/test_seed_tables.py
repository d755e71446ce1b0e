"""Every number of the three documents the project was founded on, computed again."""

import json
import math
from pathlib import Path

import pytest
import torch
from scipy.optimize import brentq

from intensive_callbacks import functional

ROWS = json.loads((Path(__file__).parents[1] / "data" / "seed_tables.json").read_text())
VALUES = [row for row in ROWS if row["kind"] == "value"]
NAMES = {"log_base": "base"}  # the table's name for an argument, and ours


def computed(row):
    if row["function"] == "other":
        if row["formula"].startswith("the root m > 0 of"):
            coupling = row["kwargs"]["beta_coupling"]
            return brentq(lambda m: m - math.tanh(coupling * m), 1e-6, 1, xtol=1e-15)
        return eval(row["formula"], {**vars(math), "sum": sum, "__builtins__": {}}, row["kwargs"])
    arguments = {
        NAMES.get(name, name): torch.tensor(value, dtype=None if name == "expert_ids" else torch.float64)
        if isinstance(value, list)
        else value
        for name, value in row["kwargs"].items()
    }
    return float(getattr(functional, row["function"])(**arguments))


def is_printed(row, value, units):
    """Whether ``value`` is what the document prints, to within so many units of the last digit."""
    difference = value * row["seed_unit_factor"] - row["seed_value"]
    return abs(difference) <= units * 10.0 ** -row["seed_digits"] + 1e-12


@pytest.mark.parametrize("row", VALUES, ids=[f"{row['row']}-{row['quantity']}" for row in VALUES])
def test_value(row):
    value = computed(row)
    if row["expected"] is None:
        assert math.isnan(value)
        return
    assert value == pytest.approx(row["expected"], rel=1e-9, abs=1e-15)
    if row["flag"] == "ok":
        assert is_printed(row, value, 0.5)
    if row["flag"] == "rounding":
        assert is_printed(row, value, 1)
    if row["flag"] == "wrong_value" and row["seed_value"] is not None:
        assert not is_printed(row, value, 1)


def test_rounded_inputs_explain_the_printed_values():
    """A score is printed to 0.01 points and a size to 0.01 GB: half of that moves the density."""
    for row in VALUES:
        if row["flag"] != "rounded_inputs":
            continue
        accuracy, num_bytes = row["kwargs"]["accuracy"], row["kwargs"]["num_bytes"]
        low = functional.intelligence_density(accuracy - 5e-5, num_bytes + 5e6)
        high = functional.intelligence_density(accuracy + 5e-5, num_bytes - 5e6)
        half_digit = 0.5 * 10.0 ** -row["seed_digits"]
        assert low - half_digit <= row["seed_value"] <= high + half_digit


def test_nothing_is_left_out():
    assert len(VALUES) == 149
    assert {row["kind"] for row in ROWS} == {"value", "erratum"}
