"""A second reader of the shipped tables, which shares no code with the scripts that make them."""

import csv
import math
import re
from fractions import Fraction
from pathlib import Path

import pytest

from intensive_callbacks import load_baselines
from intensive_callbacks.functional import intelligence_density

BASELINES = Path(__file__).parents[2] / "intensive_callbacks" / "benchmark" / "baselines"


def lines(name):
    with (BASELINES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def exact(text):
    return Fraction(text)


@pytest.mark.parametrize("name", ["density"])
def test_derived_cells_follow_from_the_printed_ones(name):
    for cells in lines(name):
        assert exact(cells["accuracy"]) == exact(cells["printed"]) / 100
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/[\w./-]+", cells["url"])
        repository, commit = cells["url"].split("/blob/")[0].removeprefix("https://"), cells["url"].split("/")[6]
        assert f"({repository}, {commit[:7]})" in cells["source"]


def half_step(text):
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def test_density_gives_what_its_source_prints():
    rows = {row.model: row for row in load_baselines("density")}
    assert len(rows) == 34
    for cells in lines("density"):
        row, base = rows[cells["model"]], {"e": math.e, "2": 2.0}[cells["log_base"]]
        assert exact(cells["num_bytes"]) == exact(cells["printed_gb"]) * 10**9
        size, score, density = (cells[name] for name in ("printed_gb", "printed", "printed_density"))
        # Printed from unrounded sizes and scores, so only what all three roundings allow is asked for.
        low = -math.log(1 - (float(score) - half_step(score)) / 100) / (float(size) + half_step(size))
        high = -math.log(1 - (float(score) + half_step(score)) / 100) / (float(size) - half_step(size))
        assert low - half_step(density) <= float(density) * math.log(base) <= high + half_step(density)
        assert low <= float(intelligence_density(row.accuracy, num_bytes=row.num_bytes)) <= high
