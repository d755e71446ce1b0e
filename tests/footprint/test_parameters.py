from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from intensive_callbacks.footprint.parameters import count_parameters, parameter_fingerprint

PUBLISHED = json.loads((Path(__file__).parent.parent / "data" / "published_models.json").read_text())


def build(entry):
    import transformers

    config = getattr(transformers, entry["transformers_config_class"])(**entry["config_kwargs"])
    with torch.device("meta"):
        return getattr(transformers, entry["model_class"])(config)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry["model"])
def test_published_models_by_their_own_convention(entry):
    """The table's figures were built independently of this code; the publisher's own number is one of them."""
    count = count_parameters(build(entry))
    assert count.total / 1e9 == pytest.approx(entry["measured_total"], rel=1e-4)
    active = (count.active, count.active_without_input_embedding, count.active_without_embeddings)
    assert [round(figure / 1e9, 3) for figure in active] == entry["measured_active"]
    assert count.convention(entry["published_active"]) == entry["convention"]
    assert count.total == pytest.approx(entry["published_total"], rel=0.01)


class Block(nn.Module):
    """Four experts of 8 x 8, of which a token sees two; a gate; a shared expert."""

    def __init__(self, top_k=2):
        super().__init__()
        self.gate = nn.Linear(8, 4, bias=False)
        self.experts = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(4))
        self.shared = nn.Linear(8, 8, bias=False)
        if top_k is not None:
            self.top_k = top_k


class Model(nn.Module):
    def __init__(self, *, tied=False, top_k=2):
        super().__init__()
        self.tokens = nn.Embedding(10, 8)
        self.block = Block(top_k)
        self.head = nn.Linear(8, 10, bias=False)
        if tied:
            self.head.weight = self.tokens.weight


def test_kinds_by_hand():
    count = count_parameters(Model())
    assert (count.routed, count.router, count.shared, count.embedding) == (4 * 64, 32, 64, 160)
    assert count.total == 4 * 64 + 32 + 64 + 160
    assert count.active == 2 * 64 + 32 + 64 + 160
    assert count.active_without_input_embedding == count.active - 80
    assert count.active_without_embeddings == count.active - 160
    assert count.num_bytes == 4 * count.total


def test_tied_table_counts_once_and_stays_as_the_head():
    count = count_parameters(Model(tied=True))
    assert count.embedding == 80
    assert count.active_without_input_embedding == count.active
    assert count.active_without_embeddings == count.active - 80


def test_measured_experts_per_token():
    model = Model()
    dense = 32 + 64 + 160
    assert count_parameters(model, num_experts_per_token=1.25).active == 80 + dense
    assert count_parameters(model, num_experts_per_token={"block": 3}).active == 192 + dense
    with pytest.raises(ValueError, match=r"'blok'.*'block'"):
        count_parameters(model, num_experts_per_token={"blok": 1})
    with pytest.raises(ValueError, match=r"\[0, 4\] for block, got 5"):
        count_parameters(model, num_experts_per_token=5)


def test_unknown_top_k_counts_all_experts_and_says_so():
    with pytest.warns(UserWarning, match="block does not say how many experts"):
        count = count_parameters(Model(top_k=None))
    assert count.active == count.total


def test_dense_model_trainable_part_buffers_and_dtype():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).to(torch.bfloat16)
    model[0].requires_grad_(requires_grad=False)
    count = count_parameters(model)
    assert (count.total, count.active, count.trainable) == (28, 28, 8)
    assert count.num_bytes == 2 * 28 + 2 * 8 + 8  # running mean and variance, and a 64-bit batch counter
    assert count.routed == count.router == count.shared == count.embedding == 0


def test_a_published_number_of_no_convention_is_refused():
    with pytest.raises(ValueError, match="follow none of the conventions: active 384, "):
        count_parameters(Model()).convention(260)


def test_lazy_parameters_and_buffers_are_refused():
    with pytest.raises(ValueError, match="'weight' is lazy"):
        count_parameters(nn.LazyLinear(3))
    with pytest.raises(ValueError, match="'running_mean' is lazy"):
        count_parameters(nn.LazyBatchNorm1d(affine=False))


class Unready(Model):
    """transformers' interface on a model that is not ready to answer."""

    @property
    def _weight_bias(self):
        raise RuntimeError("not yet")

    @property
    def get_output_embeddings(self):
        raise RuntimeError("not yet")

    def get_input_embeddings(self):
        raise RuntimeError("not yet")


def test_a_model_whose_properties_and_methods_raise_is_counted():
    with pytest.warns(RuntimeWarning, match=r"get_input_embeddings\(\) of Unready failed: RuntimeError: not yet"):
        count = count_parameters(Unready())
    assert count == count_parameters(Model())


def naive(model):
    sizes = [0 if nn.parameter.is_lazy(p) else p.numel() for p in model.parameters()]
    return len(sizes), sum(sizes)


def test_the_fingerprint_is_that_of_all_parameters():
    model = Model()
    model.lazy, model.block.none = nn.LazyLinear(3), None
    model.block.register_parameter("absent", None)
    assert parameter_fingerprint(model) == naive(model)
    model.lazy(torch.ones(2, 5))
    assert parameter_fingerprint(model) == naive(model)


def test_the_fingerprint_ends_where_a_module_holds_its_parent():
    model = Model()
    model.block.parent = model
    assert parameter_fingerprint(model) == naive(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "extra", nn.Linear(2, 2)),
        lambda model: delattr(model.block, "shared"),
        lambda model: model.block.experts.append(nn.Linear(8, 8)),
        lambda model: setattr(model, "tokens", nn.Embedding(11, 8)),
        lambda model: setattr(model.head, "weight", nn.Parameter(torch.ones(3, 8))),
        lambda model: setattr(model.head, "bias", nn.Parameter(torch.ones(10))),
    ],
)
def test_the_fingerprint_changes_when_a_model_grows_or_shrinks(change):
    model = Model()
    before = parameter_fingerprint(model)
    assert parameter_fingerprint(model) == before
    change(model)
    assert parameter_fingerprint(model) != before


def test_deepseek_v3_is_built_and_counted_in_little_memory():
    code = (
        "import re, torch, transformers\n"
        "from intensive_callbacks.footprint.parameters import count_parameters\n"
        "with torch.device('meta'): model = transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config())\n"
        # what the process itself has used at most: getrusage would begin with the size of the tests' own process
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"
        "print(count_parameters(model).total, peak)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True, text=True)
    total, kilobytes = map(int, done.stdout.split())
    assert round(total / 1e9, 3) == 671.026
    assert kilobytes * 1024 < 1e9
