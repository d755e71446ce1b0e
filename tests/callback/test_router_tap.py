"""What routers decide beside the batch they decide for: coupling of tokens and experts, and what comes of it."""

import math
import re

import pytest
import torch
from torch import nn

from callback.runs import fit
from digits import DigitsClassifier, MixtureOfExperts
from intensive_callbacks import (
    ConfigurationQuality,
    CouplingQuality,
    IntensiveMetricsCallback,
    Monitor,
    RouterTap,
    ShannonEntropy,
)
from intensive_callbacks.functional import contingency_table, coupling_quality_compute, layerwise_standard_error

NUM_WORDS, NUM_EXPERTS = 6, 8


class Words(nn.Module):
    """An embedding and five mixtures of experts, whose routers see which word a token is, and where it stands."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(NUM_WORDS, 12)
        self.place = nn.Parameter(torch.randn(10, 12))
        self.blocks = nn.ModuleList(MixtureOfExperts(12, NUM_EXPERTS, 2) for _ in range(5))

    def forward(self, input_ids):
        hidden = (self.embed(input_ids) + self.place).flatten(0, 1)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden


def first_choice(sample, batch):
    return batch["input_ids"].flatten(), sample.expert_ids[:, 0]


def chosen(model, input_ids):
    """Each token's first expert and the logits, layer by layer, without the library's hooks."""
    experts, logits, hidden = [], [], (model.embed(input_ids) + model.place).flatten(0, 1)
    for block in model.blocks:
        logits.append(block.gate(hidden))
        experts.append(logits[-1].argmax(-1))
        hidden = hidden + block(hidden)
    return experts, logits


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(NUM_WORDS, (4, 10), generator=generator)} for _ in range(3)]


@torch.no_grad()
def test_tokens_and_experts_are_paired_as_they_were_routed(batches):
    model = Words()
    taps = [
        RouterTap("blocks.2", first_choice, CouplingQuality(NUM_WORDS, NUM_EXPERTS)),
        RouterTap("blocks.*", lambda sample, batch: sample.expert_ids[:, 0], ShannonEntropy(NUM_EXPERTS)),
    ]
    with Monitor(model, every_n_steps=3, taps=taps, strict=True, metrics=[]) as monitor:
        for step, batch in enumerate(batches, start=1):
            monitor.observe(batch)
            model(**batch)
            values = monitor.log(step)
    # Taps listen on the steps that feed a value: the first, which gives the baseline, and the third.
    heard = torch.cat([batches[0]["input_ids"], batches[2]["input_ids"]])
    words, (experts, _) = heard.flatten(), chosen(model, heard)
    counts, _ = contingency_table((words, experts[2]), (NUM_WORDS, NUM_EXPERTS))
    assert 0 < values["intensive/coupling_quality"] < 1
    assert values["intensive/coupling_quality"] == pytest.approx(coupling_quality_compute(counts).item())
    shares = torch.bincount(torch.cat(experts), minlength=NUM_EXPERTS).double() / (5 * 80)
    seen = (shares > 0).sum().item()
    entropy = torch.special.entr(shares).sum().item() / math.log(2) + (seen - 1) / (2 * 400 * math.log(2))
    assert values["intensive/entropy"] == pytest.approx(entropy)


@torch.no_grad()
def test_configuration_quality_waits_for_an_accuracy(batches):
    model = Words()
    total = sum(parameter.numel() for parameter in model.parameters())
    metric = ConfigurationQuality(
        NUM_WORDS, NUM_EXPERTS, total_params=total, active_params=total / 2, random_baseline=0.25
    )
    tap = RouterTap("blocks.0", lambda sample, batch: dict(zip("xy", first_choice(sample, batch), strict=True)), metric)
    key = "intensive/configuration_quality"
    with Monitor(model, every_n_steps=1, taps=[tap], strict=True, metrics=[]) as monitor:
        for step in (1, 2):
            monitor.observe(batches[0])
            model(**batches[0])
            with monitor.validation():
                for batch in batches[1:]:
                    monitor.observe(batch)
                    model(**batch)
            values = monitor.log(step, accuracy=0.6 if step == 2 else None, num_examples=50)
            assert (key in values) == (step == 2)
    words = torch.cat([batch["input_ids"].flatten() for batch in batches[1:]])
    experts = torch.cat([chosen(model, batch["input_ids"])[0][0] for batch in batches[1:]])
    counts, _ = contingency_table((words, experts), (NUM_WORDS, NUM_EXPERTS))
    assert values[key] == pytest.approx(coupling_quality_compute(counts).item() * 0.5 * 0.6 / 0.25)


@torch.no_grad()
def test_layers_have_a_mean_with_an_error_and_a_free_energy(batches):
    model = Words()
    wanted = ["routing/free_energy", "routing/load_entropy"]
    with Monitor(model, every_n_steps=1, metrics=wanted, per_layer=True, strict=True, benchmark=None) as monitor:
        monitor.observe(batches[0])
        model(**batches[0])
        values = monitor.log(1)
    _, logits = chosen(model, batches[0]["input_ids"])
    energies = torch.stack([-each.double().logsumexp(-1).mean() for each in logits])
    for layer, energy in enumerate(energies):
        assert values[f"routing_by_layer/free_energy/blocks.{layer}"] == pytest.approx(energy.item(), rel=1e-6)
    assert values["routing/free_energy"] == pytest.approx(energies.mean().item(), rel=1e-6)
    error = layerwise_standard_error(energies).item()
    assert values["routing/free_energy_standard_error"] == pytest.approx(error, rel=1e-5)
    (row,) = next(iter(monitor.finish().groups.values()))
    assert row.measured_errors["routing/free_energy"] == pytest.approx(error, rel=1e-5)


def test_in_a_trainer_it_listens_to_the_validation_batches():
    seen = []

    def read(sample, batch):
        seen.append((sample.expert_ids.shape[0], batch[0].shape[0]))
        return batch[1], sample.expert_ids[:, 0]

    tap = RouterTap("blocks.0", read, CouplingQuality(10, 8))
    callback = IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, taps=[tap], benchmark=None)
    fit(callback, max_epochs=1, num_sanity_val_steps=2)
    assert seen == [(40, 40), (40, 40), (40, 40), (40, 40), (16, 16)]  # two of the sanity check, forgotten, then all
    assert not math.isnan(callback.history.newest()["intensive/coupling_quality"])
    assert callback.monitor.feeds._batch is None


def test_a_read_that_fails_is_one_warning():
    tap = RouterTap("blocks.0", lambda sample, batch: batch["nothing"], CouplingQuality(10, 8))
    callback = IntensiveMetricsCallback(every_n_steps=4, random_baseline=0.1, taps=[tap], benchmark=None)
    with pytest.warns(RuntimeWarning, match="the tap on 'blocks.0' into CQ failed and is switched off"):
        fit(callback, max_epochs=1)
    assert callback.history.newest()["intensive/p3_score"] > 0


@pytest.mark.parametrize(("routers", "known"), [("auto", "blocks.0, blocks.1"), (None, "none")])
def test_a_layer_that_is_not_watched_is_refused(routers, known):
    tap = RouterTap("head", first_choice, CouplingQuality(10, 8))
    message = f"a RouterTap names the layer 'head', but those observed are {known}"
    with pytest.raises(ValueError, match=re.escape(message)):
        Monitor(DigitsClassifier(), taps=[tap], routers=routers)
