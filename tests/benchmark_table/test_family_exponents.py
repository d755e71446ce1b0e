"""Exponents along families of published models, against a straight line through their published figures."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

import intensive_callbacks
from benchmarks.family_exponents import FAMILIES, exponents, members

FOLDER = Path(intensive_callbacks.__file__).parent / "benchmark" / "baselines"
SCORES = {
    "intensive/p3_score": lambda row: row["accuracy"] / row["active_params"],
    "intensive/memory_efficiency": lambda row: row["accuracy"] / row["num_bytes"],
    "intensive/intelligence_density": lambda row: -np.log(1 - row["accuracy"]) / row["num_bytes"],
    "intensive/relevance_rate": lambda row: row["accuracy"] / row["random_baseline"],  # each model is dense
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("key", SCORES)
def test_slope_and_interval_of_each_family(family, key):
    names = [row.model for row in members(family)]
    assert len(names) == len(set(names)) >= 3
    with (FOLDER / f"{family.baselines}.csv").open(encoding="utf-8", newline="") as file:
        lines = [row for row in csv.DictReader(file) if row["protocol"].startswith(family.protocol)]
    columns = ("accuracy", "active_params", "num_bytes", "random_baseline")
    rows = [{name: float(row[name]) for name in columns} for row in lines if row["model"] in names]
    x, y = np.log([row["active_params"] for row in rows]), np.log([SCORES[key](row) for row in rows])
    slope, intercept = np.polyfit(x, y, 1)
    residuals = y - slope * x - intercept
    error = np.sqrt(residuals @ residuals / (len(rows) - 2) / ((x - x.mean()) ** 2).sum())
    margin = student.ppf(0.975, len(rows) - 2) * error
    assert exponents(family)[key] == pytest.approx((slope, slope - margin, slope + margin), abs=1e-6)


def test_estimated_flops_have_the_exponent_of_p3():
    found = exponents(next(family for family in FAMILIES if family.baselines == "language"))
    assert found["analytic_p2f"] == pytest.approx(found["intensive/p3_score"])
    assert "intensive/p2f_score" not in found
