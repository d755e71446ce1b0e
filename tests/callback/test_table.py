"""The final table of a run: its standard errors, also after a checkpoint."""

import io
import math
import re

import pytest
import torch
from rich.console import Console
from torch import nn

from intensive_callbacks import Monitor, Tap


def watched(model):
    """A Monitor with a coupling between what a model is given and what it answers."""
    taps = [Tap("", lambda inputs, output: (inputs[0][..., 0], output[..., 0]), "QC3")]
    return Monitor(model, every_n_steps=1, random_baseline=0.5, taps=taps, benchmark=None, task="pairs")


def test_scores_are_printed_with_their_standard_errors():
    torch.manual_seed(0)
    model, inputs = nn.Linear(3, 1, bias=False), torch.randn(1, 403, 3)
    with watched(model) as monitor:
        monitor.observe(inputs)
        output = model(inputs)
        monitor.log(1, accuracy=0.8, num_examples=100)
    pearson = torch.corrcoef(torch.stack([inputs[0, :, 0], output[0, :, 0]]))[0, 1].item()
    (row,) = monitor.finish().groups["pairs", "measured in this run"]
    assert row.measured_errors["intensive/query_coupling"] == pytest.approx((1 - pearson**2) / 20, rel=1e-5)
    accuracy_error = math.sqrt(0.8 * 0.2 / 100)
    assert row.measured_errors["intensive/p3_score"] == pytest.approx(100 * accuracy_error / 3e-9)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(monitor.finish())
    text = console.export_text()
    (coupling,) = re.findall(r"QC3 +(\S+ ±\S+)", text)
    assert coupling == f"{pearson:.3g} ±{(1 - pearson**2) / 20:.2g}"
    assert "80.0% ±4.0" in text

    resumed = watched(model)
    resumed.load_state_dict(monitor.state_dict())
    assert next(iter(resumed.finish().groups.values()))[0].measured_errors == row.measured_errors


def final_table(task):
    model = nn.Linear(3, 1)
    with Monitor(model, every_n_steps=1, benchmark="vision", task=task) as monitor:
        monitor.observe(torch.ones(8, 3))
        model(torch.ones(8, 3))
        monitor.log(1, accuracy=0.75)
    return monitor.finish()


def shown(table):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table.featured())
    return console.export_text(), [row for rows in table.featured().groups.values() for row in rows]


def test_at_most_six_published_models_of_its_task_stand_beside_a_run():
    text, (own, *others) = shown(final_table("ImageNet-1k top-1"))
    assert own.source == "this run"
    assert 1 < len(others) <= 6
    assert {row.task for row in others} == {"ImageNet-1k top-1"}
    assert "no published model" not in text


def test_a_run_of_another_task_stands_alone_and_says_so():
    text, rows = shown(final_table("digits"))
    assert [row.source for row in rows] == ["this run"]
    assert " ".join(text.split()).endswith(
        "no published model is shown beside it: those of 'vision' were tested on 'ImageNet-1k top-1'; if that is its "
        "task, pass task="
    )
