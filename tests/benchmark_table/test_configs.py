import csv
import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, OlmoeConfig

from generate.counted import CONFIGURATIONS, count, counted_models
from intensive_callbacks.benchmark.configs import row_of_config

KNOWN = {"model": "m", "task": "MMLU", "protocol": "5-shot", "source": "here", "accuracy": 0.541}


def test_row_of_a_config_and_an_accuracy():
    # OLMoE-1B-7B: 6.919e9 parameters, 1.282e9 active with both embeddings in, in bfloat16
    config = OlmoeConfig(
        hidden_size=2048, intermediate_size=1024, num_experts=64, num_experts_per_tok=8, dtype="bfloat16"
    )
    row = row_of_config(config, **KNOWN)
    assert row.total_params == pytest.approx(6.919e9, rel=1e-3)
    assert row.active_params == pytest.approx(1.282e9, rel=1e-3)
    assert row.num_bytes == pytest.approx(2 * row.total_params, rel=1e-3)


def test_config_file_is_read_and_given_values_win(tmp_path):
    config = LlamaConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, vocab_size=10)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config.to_dict(), "model_type": "llama"}), encoding="utf-8")
    row = row_of_config(path, **KNOWN, num_bytes=77)
    # embedding and head 2 x 80, attention 4 x 64, MLP 3 x 128, three norms of 8
    assert (row.total_params, row.active_params, row.num_bytes) == (824, 824, 77)


def test_model_names_are_not_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        row_of_config("meta-llama/Llama-2-7b-hf", **KNOWN)
    Path("config.json").write_text('{"model_type": "no such"}', encoding="utf-8")
    with pytest.raises(ValueError, match="no such"):
        row_of_config("config.json", **KNOWN)


def test_config_runs_no_code_of_its_own(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"trust_remote_code|custom code"):
        row_of_config(tmp_path, **KNOWN)


def smallest_of_each_kind():
    """One model per class of transformers; ``python tests/generate/counted.py`` counts them all."""
    by_size = sorted(CONFIGURATIONS, key=lambda model: counted_models()[model]["total"], reverse=True)
    return sorted({CONFIGURATIONS[model]["model_class"]: model for model in by_size}.values())


@pytest.mark.parametrize("model", smallest_of_each_kind())
def test_checked_in_counts_are_counted_again(model):
    assert count(CONFIGURATIONS[model]) == counted_models()[model]


def test_each_configuration_is_counted_and_has_a_source():
    assert list(CONFIGURATIONS) == list(counted_models())
    assert all(entry["source"].startswith("https://") for entry in CONFIGURATIONS.values())


# The publisher counts something else; what it is, in parameters, from the model's own shape.
ELSEWHERE = {
    # 34 layers of width 1408 with four attention matrices and two of 1408 x 5632, the vision encoder of both.
    "Llama-4-Scout": 34 * (4 * 1408**2 + 2 * 1408 * 5632),
}


def published(text):
    """The number and one unit of its last digit: some publishers round, others cut off."""
    unit = {"M": 10**6, "B": 10**9, "T": 10**12}[text[-1]]
    digits = text[:-1]
    step = 10 ** -len(digits.partition(".")[2]) if "." in digits else 10 ** (len(digits) - len(digits.rstrip("0")))
    return float(digits) * unit, step * unit


def model_facts():
    with (Path(__file__).parents[1] / "generate" / "models.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["configuration"]]


@pytest.mark.parametrize("row", model_facts(), ids=lambda row: row["model"])
def test_counts_agree_with_what_is_published(row):
    counted = counted_models()[row["configuration"]]
    total, step = published(row["published_total"])
    # Some publishers leave one or both embeddings out of the total too.
    inactive = counted["total"] - counted["active"]
    totals = [inactive + figure for name, figure in counted.items() if name.startswith("active")]
    totals.append(counted["total"] + ELSEWHERE.get(row["configuration"], 0))
    assert min(abs(total - figure) for figure in totals) <= step
    active, step = published(row["published_active"])
    assert min(abs(active - figure) for name, figure in counted.items() if name.startswith("active")) <= step
