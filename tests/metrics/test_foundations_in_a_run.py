"""The foundations are reachable from a Monitor: by a tap where they need a signal, by name where they need accuracy."""

import math

import pytest
import torch
from torch import nn

from intensive_callbacks import (
    ConfigurationQuality,
    CouplingQuality,
    EffectiveDimensionality,
    GaussianTransferEntropy,
    Monitor,
    SalienceDivergence,
    Tap,
    TaskInformation,
)
from intensive_callbacks.functional import (
    contingency_table,
    coupling_quality_compute,
    effective_dimensionality,
    gaussian_transfer_entropy,
    salience_divergence,
    task_information,
)


class Reader(nn.Module):
    """Attends from one query to T tokens, keeps a state over them, and judges itself."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 5)
        self.attention = nn.Softmax(dim=-1)
        self.memory = nn.GRU(5, 2, batch_first=True)
        self.gate = nn.Linear(5, 4)
        self.head = nn.Linear(5, 2)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, tokens, target):
        embedded = self.embed(tokens)
        self.gate(embedded)
        self.memory(embedded)
        weights = self.attention(embedded[..., 0])
        return self.loss(self.head((weights.unsqueeze(-1) * embedded).sum(1)), target)


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    model, tokens, target = Reader(), torch.randn(200, 6, 6), torch.randint(2, (200,))
    looked_at = torch.rand(200, 6)
    words = (tokens[..., 0] > 0).long()
    taps = [
        Tap("embed", lambda inputs, output: output, EffectiveDimensionality(5, per_token=True)),
        Tap("loss", lambda inputs, output: inputs, TaskInformation(num_classes=2, num_dimensions=5)),
        Tap("attention", lambda inputs, output: (looked_at, output), SalienceDivergence()),
        Tap("gate", lambda inputs, output: -output, "intensive/free_energy"),
        Tap("gate", lambda inputs, output: (words, output.argmax(-1)), CouplingQuality(2, 4)),
        Tap("memory", lambda inputs, output: (inputs[0], output[0]), GaussianTransferEntropy(5, 2)),
    ]
    wanted = ["intensive/order_parameter", "intensive/parameter_flop_efficiency", "intensive/net_score"]
    with Monitor(model, every_n_steps=1, random_baseline=0.5, taps=taps, metrics=wanted, strict=True) as monitor:
        monitor.observe((tokens, target))
        model(tokens, target)
        values = monitor.log(step=1, accuracy=0.75)
    return model, tokens, target, looked_at, words, values


@torch.no_grad()
def test_taps_feed_the_foundations(run):
    model, tokens, target, looked_at, words, values = run
    embedded = model.embed(tokens)
    attention = embedded[..., 0].softmax(-1)
    logits = model.head((attention.unsqueeze(-1) * embedded).sum(1))
    counts, _ = contingency_table((words, model.gate(embedded).argmax(-1)), (2, 4))
    expected = {
        "intensive/effective_dimensionality": effective_dimensionality(embedded, per_token=True),
        "intensive/task_information": task_information(logits, target, num_dimensions=5),
        "intensive/salience_divergence": salience_divergence(looked_at, attention).mean(),
        "intensive/free_energy": -model.gate(embedded).double().logsumexp(-1).mean(),
        "intensive/coupling_quality": coupling_quality_compute(counts),
        "intensive/gaussian_transfer_entropy": gaussian_transfer_entropy(embedded, model.memory(embedded)[0]),
    }
    for key, value in expected.items():
        assert values[key] == pytest.approx(value.item(), rel=1e-6), key


def test_accuracy_feeds_what_is_named(run):
    model, *_, values = run
    num_params = sum(parameter.numel() for parameter in model.parameters())
    num_flops = values["baseline/flops_per_example"]
    assert values["intensive/order_parameter"] == pytest.approx(0.25)
    assert values["intensive/parameter_flop_efficiency"] == pytest.approx(75 / num_params / num_flops * 1e21)
    score = 20 * math.log10(75**2 / math.sqrt(num_params / 1e6 * num_flops / 2e9))
    assert values["intensive/net_score"] == pytest.approx(score)


def test_configuration_quality_takes_its_inputs_apart():
    torch.manual_seed(0)
    x = torch.randint(3, (500,))
    y = torch.where(torch.rand(500) < 0.5, x, torch.randint(3, (500,)))
    quality = ConfigurationQuality(3, 3, total_params=100.0, active_params=25.0, random_baseline=0.2)
    for part in zip(x.split(99), y.split(99), strict=True):
        quality.update(x=part[0], y=part[1])
    quality.update(0.6, num_examples=50)
    coupling = coupling_quality_compute(contingency_table((x, y), (3, 3))[0]).item()
    assert quality.compute().item() == pytest.approx(coupling * 0.25 * 0.6 / 0.2)
    assert quality.standard_error().item() == pytest.approx(coupling * 0.25 / 0.2 * math.sqrt(0.6 * 0.4 / 50))
