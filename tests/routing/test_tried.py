"""The routing page's table of what was tried is what the tests try; ``python -m routing.test_tried`` prints it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import intensive_callbacks
from intensive_callbacks import RouterObserver
from routing.designs import DESIGNS
from routing.families import families
from routing.kinds import KINDS, D

PAGE = Path(intensive_callbacks.__file__).parent / "routing" / "README.md"


def row(kind):
    """One line of the table: what was found, what was counted and what the experts computed, for 60 tokens."""
    torch.manual_seed(0)
    block = kind().eval()
    with RouterObserver(nn.ModuleDict({"layer": block})) as observer, torch.no_grad():
        block(torch.randn(3, 20, D))
        states = observer.read().by_layer()["layer"]
    read, dropped = states["load"].int().tolist(), int(states["num_dropped"])
    (layer,) = observer.layers
    computed = [int(each) for each in block.load]
    return f"| {kind.__name__} | {layer.num_experts} | {read} | {computed} | {dropped} | {block.num_dropped} |"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_page_has_the_row_of_each_kind(kind):
    if not torch.__version__.startswith(re.search(r"torch (\d+\.\d+), 60 tokens", PAGE.read_text("utf8"))[1]):
        pytest.skip("random numbers of another torch")
    assert row(kind) in PAGE.read_text(encoding="utf8").splitlines()


def test_the_page_names_the_families_and_versions_tried():
    transformers = pytest.importorskip("transformers")
    text = PAGE.read_text(encoding="utf8")
    version, number = re.search(r"transformers (\d+\.\d+)[.\d]* \| (\d+) families", text).groups()
    if transformers.__version__.startswith(version):
        assert int(number) == len(families())
    assert f"{len(DESIGNS)} designs in torch alone" in text


if __name__ == "__main__":
    print("\n".join(map(row, KINDS)))  # noqa: T201 - it is for the page
