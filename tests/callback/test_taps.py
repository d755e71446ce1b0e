"""Taps by name: sizes are learned from the first batch, patterns name several modules."""

import math
import re

import pytest
import torch
from torch import nn

from callback.runs import fit
from digits import DigitsClassifier
from intensive_callbacks import EffectiveDimensionality, IntensiveMetricsCallback, Monitor, Tap

SIZES = {  # what a tap reads, and how the metric would be built by hand
    "D_eff": (lambda inputs, output: output, "EffectiveDimensionality", {"num_features": 3}),
    "I_V": (lambda inputs, output: (output, output.argmax(-1)), "TaskInformation", {"num_classes": 3}),
    "TE (Gaussian)": (
        lambda inputs, output: {"source": inputs[0][:, :2], "target": output},
        "GaussianTransferEntropy",
        {"num_source": 2, "num_target": 3},
    ),
    "layer mean": (lambda inputs, output: output.mean(0), "LayerwiseMean", {"num_layers": 3}),
    "Φ": (lambda inputs, output: output, "IntegratedInformation", {"num_components": 3}),
}


@pytest.mark.parametrize("symbol", SIZES)
def test_sizes_are_those_of_the_first_batch(symbol):
    import intensive_callbacks

    read, name, sizes = SIZES[symbol]
    model, batches = nn.Linear(5, 3), torch.randn(2, 64, 5)
    with Monitor(model, every_n_steps=2, taps=[Tap("", read, symbol)], observe="every_step", strict=True) as monitor:
        for step, batch in enumerate(batches, start=1):
            monitor.observe(batch)
            model(batch)
            values = monitor.log(step)
    (tapped,) = monitor.feeds.tapped.values()
    metric = getattr(intensive_callbacks, name)(**sizes)
    for batch in batches:
        arguments = read((batch,), model(batch).detach())
        if isinstance(arguments, dict):
            metric.update(**arguments)
        else:
            metric.update(*(arguments if isinstance(arguments, tuple) else (arguments,)))
    assert not math.isnan(values[tapped.card.key])
    assert values[tapped.card.key] == pytest.approx(float(metric.compute()), rel=1e-4)


def test_a_number_of_categories_is_asked_for():
    with pytest.raises(ValueError, match=r"ShannonEntropy requires num_values.*ShannonEntropy\(num_values=\.\.\.\)"):
        Monitor(nn.Linear(2, 2), taps=[Tap("", lambda inputs, output: output.argmax(-1), "H")])


def test_a_pattern_names_several_modules():
    model, seen = DigitsClassifier(), []

    def read(inputs, output):
        seen.append(output)
        return output

    with Monitor(model, every_n_steps=1, taps=[Tap("blocks.?", read, EffectiveDimensionality(32))]) as monitor:
        monitor.observe(torch.rand(40, 64))
        model(torch.rand(40, 64))
        values = monitor.log(1)
    assert len(seen) == len(model.blocks) == 2
    metric = EffectiveDimensionality(32)
    metric.update(torch.cat(seen))
    assert values["intensive/effective_dimensionality"] == pytest.approx(float(metric.compute()), rel=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_pattern_without_a_module_is_refused():
    message = "a Tap names the module 'layers.*', but the model has only embed"
    with pytest.raises(ValueError, match=re.escape(message)):
        Monitor(DigitsClassifier(), taps=[Tap("layers.*", lambda inputs, output: output, "D_eff")])


def test_in_a_trainer_by_its_symbol():
    callback = IntensiveMetricsCallback(every_n_steps=4, taps=[Tap("head", lambda i, o: o, "D_eff")], benchmark=None)
    fit(callback, max_epochs=1)
    assert 1 <= callback.history.newest()["intensive/effective_dimensionality"] <= 10
