"""Load and probabilities of one value are of the same tokens."""

import pytest
import torch
from torch import nn

from digits import MixtureOfExperts
from intensive_callbacks import Monitor

KEY = "routing/switch_balance"


def balance(logits, k=2):
    """E sum f P, by a count of each expert."""
    probabilities = logits.double().softmax(-1)
    chosen = probabilities.topk(k).indices
    shares = [(chosen == expert).double().mean() for expert in range(logits.shape[-1])]
    return float(logits.shape[-1] * sum(f * p for f, p in zip(shares, probabilities.mean(0), strict=True)))


@pytest.mark.parametrize("observe", ["sampled", "every_step"])
@pytest.mark.parametrize("num_steps", [12, 3])
def test_of_the_sampled_step_or_of_the_whole_window(observe, num_steps):
    torch.manual_seed(0)
    model, seen = nn.Sequential(MixtureOfExperts(8, 4, 2)), []
    model[0].gate.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    logged = {}
    with Monitor(model, every_n_steps=4, observe=observe, benchmark=None) as monitor:
        for step in range(1, num_steps + 1):
            batch = torch.randn(16, 8) + step
            monitor.observe(batch)
            model(batch)
            logged[step] = monitor.log(step)
        logged["end"] = monitor.end_training()
    if num_steps == 3:  # the first step is a sample of a run that is too short for another
        expected = {"end": seen[:1] if observe == "sampled" else seen}
    else:
        steps = (4, 8, 12)
        expected = {step: seen[step - 1 : step] if observe == "sampled" else seen[step - 4 : step] for step in steps}
    assert {step for step, values in logged.items() if KEY in values} == expected.keys()
    for step, logits in expected.items():
        assert logged[step][KEY] == pytest.approx(balance(torch.cat(logits)), rel=1e-5)
