"""``intensive-callbacks profile``: what it prints, and that it never asks the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from intensive_callbacks.cli import app

PUBLISHED = json.loads((Path(__file__).parent / "data" / "published_models.json").read_text())
FACTORY = """
import torch
from torch import nn

def model():
    return nn.Linear(10, 5)

def image_model():
    return nn.Conv2d(3, 4, 3), torch.ones(2, 3, 8, 8)

def text_model():
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 7)), torch.ones(2, 3, dtype=torch.long)

def broken():
    return nn.Linear(10, 5), torch.ones(2, 3)

def nothing():
    return 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, ["profile", *args])


def profiled(*args):
    done = run(*args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_profile_of_a_factory(here):
    assert profiled("my_models:model") == {
        "model": "Linear",
        "num_bytes": 220,
        "parameters": {
            "total": 55,
            "active": 55,
            "active_without_input_embedding": 55,
            "active_without_embeddings": 55,
            "routed": 0,
            "shared": 0,
            "router": 0,
            "embedding": 0,
            "trainable": 55,
        },
        "flops": None,
    }


def test_flops_are_per_example_or_token_of_the_batch(here):
    image, text = profiled("my_models:image_model")["flops"], profiled("my_models:text_model")["flops"]
    assert (image["per_example"], image["num_examples"]) == (2 * 4 * 3 * 9 * 6 * 6, 2)
    assert (text["per_token"], text["num_tokens"]) == (2 * 6 * 7, 6)


def test_published_config_gives_published_figures(tmp_path):
    entry = next(entry for entry in PUBLISHED if entry["model"] == "OLMoE-1B-7B")
    config = {"model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], **entry["config_kwargs"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    costs = profiled(str(tmp_path / "config.json"), "--sequence-length", "64")
    assert costs == profiled(str(tmp_path), "--sequence-length", "64")
    assert round(costs["parameters"]["total"] / 1e9, 3) == entry["measured_total"]
    assert round(costs["parameters"]["active"] / 1e9, 3) == entry["measured_active"][0]
    # Two FLOPs for each active parameter that multiplies, norms aside, and attention over 64 tokens in 16 layers.
    expected = 2 * costs["parameters"]["active_without_input_embedding"] + 16 * 4 * 64 * 2048
    assert costs["flops"]["per_token"] == pytest.approx(expected, rel=1e-3)


TINY_OLMOE = {
    "model_type": "olmoe",
    "architectures": ["OlmoeForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 500,
}
EXPERT = 3 * 64 * 32


@pytest.mark.parametrize(
    ("said", "size"), [({"dtype": "bfloat16"}, 2), ({"torch_dtype": "float16"}, 2), ({"dtype": "float32"}, 4), ({}, 4)]
)
@pytest.mark.parametrize("architectures", [["OlmoeForCausalLM"], None])
def test_a_configs_type_sets_the_bytes(tmp_path, said, size, architectures):
    (tmp_path / "config.json").write_text(json.dumps({**TINY_OLMOE, **said, "architectures": architectures}))
    costs = profiled(str(tmp_path), "--sequence-length", "8")
    # The inverse frequencies of the rotary embedding, which are buffers of 32 bits.
    assert costs["num_bytes"] == pytest.approx(size * costs["parameters"]["total"], abs=2 * 4 * 64)
    assert costs["flops"]["num_tokens"] == 8


def test_experts_per_token_as_given(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY_OLMOE))
    args = (str(tmp_path), "--sequence-length", "8")
    as_the_config_says, given = profiled(*args), profiled(*args, "--num-experts-per-token", "4.5")
    assert given["parameters"]["active"] - as_the_config_says["parameters"]["active"] == 2 * 2.5 * EXPERT
    assert given["flops"]["total"] - as_the_config_says["flops"]["total"] == 2 * 8 * 2 * 2.5 * EXPERT
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["profile", *args, "--num-experts-per-token", "9"])
    assert done.exit_code == 2
    assert "must lie in [0, 8]" in done.output


def test_experts_per_token_of_a_config_that_does_not_say_it():
    with pytest.warns(UserWarning, match="sends each to 1, which is assumed here"):
        costs = profiled("SwitchTransformersConfig", "--sequence-length", "8")["parameters"]
    # Switch transformers send a token to one expert: of 8, 7 are idle.
    assert costs["total"] - costs["active"] == costs["routed"] * 7 // 8


def test_profile_table_lists_kinds_and_conventions():
    done = CliRunner(env={"COLUMNS": "140"}).invoke(app, ["profile", "MixtralConfig", "--sequence-length", "16"])
    assert done.exit_code == 0, done.output
    for text in ("MixtralConfig (MixtralForCausalLM)", "46.7 G", "12.88 G", "12.75 G", "12.62 G", "FLOPs per token"):
        assert text in done.output


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("NoSuchConfig", "is no file, no module:factory and no config class"),
        ("my_models:nowhere", "cannot find 'nowhere'"),
        ("no_module:model", "cannot find 'model'"),
        ("my_models:nothing", "must return a model, or a model and its batch; got int"),
        ("not_a_config.json", "no config of a model"),
    ],
)
def test_unprofilable_target_is_an_error_without_traceback(here, target, message):
    (here / "not_a_config.json").write_text("{}")
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["profile", target])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_failing_forward_leaves_the_other_figures(here):
    done = run("my_models:broken", "--json")
    assert json.loads(done.stdout)["parameters"]["total"] == 55
    assert "FLOPs are not counted: RuntimeError" in done.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from intensive_callbacks.cli import app\n"
        "try: app(['profile', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'wandb', 'pytorch_lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True)


def test_profile_never_opens_a_connection():
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection was tried')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from intensive_callbacks.cli import app\n"
        "app(['profile', 'OlmoeConfig', '--sequence-length', '8', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True, text=True)
    assert json.loads(done.stdout)["flops"]["num_tokens"] == 8
