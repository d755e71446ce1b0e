import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "arr_coc"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    yield importlib.import_module("model"), importlib.import_module("data")
    for name in ("model", "data"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("rule", ["direct", "inverse", "fixed", "random"])
def test_every_rule_spends_the_same_total(parts, rule):
    model, _ = parts
    relevance = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    _, budgets, _ = model.Allocator(rule)(relevance, relevance)
    assert budgets.sum(1).tolist() == [576] * 8
    assert budgets.min() >= 64
    assert budgets.max() <= 400


def test_encoder_computes_as_many_tokens_as_the_budget(parts):
    model, _ = parts
    encoder, spent = model.Encoder(), []
    encoder.mix.register_forward_hook(lambda _, inputs, output: spent.append(len(inputs[0])))
    encoder(torch.randn(1, 4, 20, 20), torch.tensor([[64, 65, 200, 400]]))
    assert spent == [729]


def test_entropy_of_a_patch_against_closed_form(parts):
    model, _ = parts
    patches = torch.zeros(1, 2, 20, 20)
    patches[0, 1, :10] = 0.5  # two gray levels, equally often
    assert model.propositional(patches)[0].tolist() == pytest.approx([0, 1])


def test_query_names_the_patch_of_the_answer(parts):
    _, data = parts
    patches, query, relevant, digit = data.mosaics(16, slice(0, 100), seed=3).tensors
    assert patches.shape == (16, 4, 20, 20)
    for values in (query, relevant):
        assert set(values.tolist()) <= set(range(4))
    assert set(digit.tolist()) <= set(range(10))


def test_run_prints_each_quantity_for_each_rule():
    command = [sys.executable, EXAMPLE / "train.py", "--epochs", "1", "--num-train", "64", "--num-val", "64"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    header, *rows = run.stdout.splitlines()[-5:]
    names = header.split(",")[1].split()[1:]
    table = {row.split()[0]: dict(zip(names, map(float, row.split()[1:]), strict=True)) for row in rows}
    assert table["direct"]["QC3"] > 0.9
    assert table["inverse"]["QC3"] < -0.5
    assert abs(table["random"]["QC3"]) < 0.3
    assert math.isnan(table["fixed"]["QC3"])  # budgets are constant
    for row in table.values():
        assert all(math.isfinite(row[name]) for name in ("KL", "CES", "R3", "ECR", "P3", "P2F", "MER"))
