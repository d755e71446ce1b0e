"""Every command turns every error into one line and an exit code."""

import json
import sys

import pytest
from typer.testing import CliRunner

from intensive_callbacks.cli import app

ESCAPE = "\x1b]0;owned\x07\u202e"
TARGETS = f"""
import sys
from torch import nn

def raises():
    raise RuntimeError("two\\nlines {ESCAPE}")

def leaves():
    sys.exit(0)

def recursive():
    return recursive()

class NoModel:
    def __call__(self):
        return None, None

no_model = NoModel()
number = 5
"""


def run(*words):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "their_targets.py").write_text(TARGETS, encoding="utf-8")
    (tmp_path / "leaving_target.py").write_text("raise SystemExit(0)", encoding="utf-8")
    (tmp_path / "broken_target.py").write_text("def f(:", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("their_targets", None)


def one_line(done):
    assert done.exit_code in (1, 2), done.output
    assert "Traceback" not in done.output
    (line,) = done.stderr.splitlines()
    assert not any(ord(char) < 32 or char == "\u202e" for char in line)
    return line


@pytest.mark.parametrize(
    "target",
    [
        *(f"their_targets:{name}" for name in ("raises", "leaves", "recursive", "no_model", "number", "nowhere")),
        "leaving_target:f",
        "broken_target:f",
        "torch.nn:Linear",
        ":",
        "a:",
        ":b",
        "\x1b[31m:x",
        "..:x",
    ],
)
def test_target_that_is_no_model(here, target):
    one_line(run("profile", target))


LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4, "vocab_size": 100}


@pytest.mark.parametrize(
    "config",
    [
        [1],
        None,
        "llama",
        {},
        {"model_type": ["llama"]},
        {"model_type": ESCAPE},
        *({**LLAMA, "hidden_size": value} for value in ("x", 0, -64, None, [64], 1.5, 10**30, {"a": 1})),
        *({**LLAMA, "num_attention_heads": value} for value in ("x", 0, -1, 10**30)),
        *({**LLAMA, "num_hidden_layers": value} for value in ("x", 10**7, 10**30)),
        {**LLAMA, "architectures": ["OlmoeForCausalLM"]},
        {"model_type": "mixtral", "num_local_experts": 10**7},
        {"model_type": "resnet", "depths": [2, 10**7]},
        {"model_type": "llava", "text_config": {**LLAMA, "num_hidden_layers": 10**7}},
    ],
    ids=str,
)
def test_config_that_makes_no_sense(here, config):
    (here / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = run("profile", here)
    if done.exit_code:
        one_line(done)
    assert "Traceback" not in done.output


def test_debug_lets_the_exception_pass(here):
    for words in (["--debug", "profile", "their_targets:raises"], ["profile", "their_targets:raises", "--debug"]):
        assert isinstance(run(*words).exception, RuntimeError)
    assert isinstance(run("dashboard", "render", "nowhere", "--debug").exception, FileNotFoundError)
    assert "RuntimeError" in one_line(run("profile", "their_targets:raises"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "{"),
        ("results.json", json.dumps({"results": {ESCAPE: {"acc": 7}}})),
        ("table.csv", f"model,{ESCAPE}\n"),
        ("table.csv", f"model,task,protocol,source,accuracy\nm,t,p,s,{ESCAPE}\n"),
        ("table.json", json.dumps({"convention": 1, "groups": [{"rows": [{"record": {"model": ESCAPE}}]}]})),
    ],
)
def test_broken_file_of_the_leaderboard(here, name, content):
    (here / name).write_text(content, encoding="utf-8")
    assert name in one_line(run("leaderboard", here / name))


def test_folder_in_place_of_a_file(here):
    (here / "results.json").mkdir()
    one_line(run("leaderboard", here / "results.json"))
    one_line(run("leaderboard", here, "--baselines", here))
