import copy
import json
import re

import pytest

from intensive_callbacks.benchmark.compare import compare
from intensive_callbacks.benchmark.harness import load_harness_results

# As lm-evaluation-harness 0.4.8 writes it, shortened: a group of two subjects beside a task of its own.
RESULTS = {
    "results": {
        "mmlu": {"acc,none": 0.625, "acc_stderr,none": 0.02, "alias": "mmlu"},
        "mmlu_stem": {"acc,none": 0.625, "acc_stderr,none": 0.02, "alias": " - stem"},
        "mmlu_anatomy": {"alias": "  - anatomy", "acc,none": 0.5, "acc_stderr,none": 0.04},
        "mmlu_virology": {"alias": "  - virology", "acc,none": 0.75, "acc_stderr,none": 0.04},
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.4, "exact_match,flexible-extract": 0.42},
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 12.0},
    },
    "groups": {"mmlu": {"acc,none": 0.625}},
    "group_subtasks": {
        "gsm8k": [],
        "mmlu_stem": ["mmlu_anatomy", "mmlu_virology"],
        "mmlu": ["mmlu_stem"],
        "wikitext": [],
    },
    "configs": {
        "mmlu_anatomy": {"task": "mmlu_anatomy", "doc_to_choice": ["A", "B", "C", "D"], "num_fewshot": 5},
        "mmlu_virology": {"task": "mmlu_virology", "doc_to_choice": ["A", "B", "C", "D"], "num_fewshot": 5},
        "gsm8k": {"task": "gsm8k", "num_fewshot": 8},
    },
    "n-shot": {"mmlu_anatomy": 5, "mmlu_virology": 5, "gsm8k": 8},
    "n-samples": {
        "mmlu_anatomy": {"original": 4, "effective": 4},
        "mmlu_virology": {"original": 4, "effective": 4},
        "gsm8k": {"original": 1319, "effective": 100},
    },
    "config": {
        "model": "hf",
        "model_args": "pretrained=org/tiny,dtype=bfloat16",
        "model_num_parameters": 1000000,
        "model_dtype": "torch.bfloat16",
    },
    "lm_eval_version": "0.4.8",
}
ANSWERS = {"mmlu_anatomy": [1.0, 0.0, 1.0, 0.0], "mmlu_virology": [1.0, 1.0, 1.0, 0.0]}


def write(folder, results=RESULTS, answers=ANSWERS):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results_2025-01-01T00-00-00.json"
    path.write_text(results if isinstance(results, str) else json.dumps(results), encoding="utf-8")
    for task, scores in answers.items():
        lines = [json.dumps({"doc_id": i, "filter": "none", "acc": score}) for i, score in enumerate(scores)]
        (folder / f"samples_{task}_2025-01-01T00-00-00.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_each_task_outside_groups_is_a_row(tmp_path):
    mmlu, gsm8k = load_harness_results(write(tmp_path))
    assert (mmlu.model, mmlu.task, mmlu.accuracy) == ("org/tiny", "mmlu", 0.625)
    assert mmlu.protocol == "lm-evaluation-harness, 5-shot, acc"
    assert (mmlu.num_examples, mmlu.random_baseline) == (8, 0.25)
    assert (mmlu.total_params, mmlu.num_bytes, mmlu.active_params) == (1e6, 2e6, None)
    assert (gsm8k.protocol, gsm8k.num_examples) == ("lm-evaluation-harness, 8-shot, exact_match, flexible-extract", 100)
    assert (gsm8k.random_baseline, gsm8k.correct) == (None, None)
    assert gsm8k.accuracy == 0.42  # flexible-extract comes first by name


def test_newest_results_of_a_folder_and_chosen_tasks(tmp_path):
    write(tmp_path / "org__tiny")
    (row,) = load_harness_results(
        tmp_path, tasks=["mmlu_virology"], active_params=4e5, num_bytes=7, random_baseline=0.2
    )
    assert (row.accuracy, row.num_examples) == (0.75, 4)
    assert (row.active_params, row.num_bytes, row.random_baseline) == (4e5, 7, 0.2)


def test_logged_samples_allow_a_comparison(tmp_path):
    first, _ = load_harness_results(write(tmp_path / "a"))
    better = {task: [1.0] * 4 for task in ANSWERS}
    second, _ = load_harness_results(write(tmp_path / "b", answers=better))
    comparison = compare(first, second, metrics=())
    assert (comparison.num_examples, comparison.only_first, comparison.only_second) == (8, 0, 3)
    alone, _ = load_harness_results(write(tmp_path / "c", answers={"mmlu_anatomy": [1.0]}))
    assert alone.correct is None  # half of the samples would be another test


def changed(*keys, value):
    results = copy.deepcopy(RESULTS)
    place = results
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return results


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "expected an object, got list"),
        ({"model": "x"}, "it has no 'results' by task"),
        ({"results": {"mmlu": 0.5}}, "it has no 'results' by task"),
        ({"results": {}}, "has no results"),
        ({"results": {"wikitext": {"word_perplexity,none": 12.0}}}, "none of wikitext has an accuracy"),
        (
            changed("results", "mmlu", "acc,none", value=62.5),
            "mmlu, acc,none: accuracy must be a fraction in [0, 1], got 62.5",
        ),
        (changed("results", "mmlu", "acc,none", value="N/A"), "mmlu, acc,none: expected a number, got 'N/A'"),
        (changed("results", "mmlu", "acc,none", value=float("nan")), "mmlu, acc,none: expected a number, got nan"),
    ],
)
def test_wrong_results_file_names_place_and_reason(tmp_path, results, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_harness_results(write(tmp_path, results))


@pytest.mark.parametrize(
    "results",
    [
        changed("group_subtasks", value={"mmlu": ["mmlu_stem"], "mmlu_stem": ["mmlu"]}),
        changed("group_subtasks", value={"mmlu": 7, "gsm8k": [3, None]}),
        changed("group_subtasks", value=[]),
        changed("n-shot", "gsm8k", value=[8]),
        changed("n-samples", "gsm8k", value={"effective": "many"}),
        changed("config", value=None),
        changed("configs", "mmlu_anatomy", value=5),
        changed("config", "model_num_parameters", value=-1),
    ],
)
def test_odd_other_sections_of_a_results_file(tmp_path, results):
    assert load_harness_results(write(tmp_path, results), tasks=["gsm8k"])[0].accuracy == 0.42


def test_wrong_sample_names_its_line(tmp_path):
    path = write(tmp_path)
    samples = tmp_path / "samples_mmlu_anatomy_2025-01-01T00-00-00.jsonl"
    samples.write_text('{"doc_id": 0, "acc": 0.3}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1: expected acc to be 0 or 1, got 0\.3"):
        load_harness_results(path)
    samples.write_text('{"doc_id": 0\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        load_harness_results(path)


def test_missing_results_and_unknown_task(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"give results\.json or its folder"):
        load_harness_results(tmp_path)
    with pytest.raises(ValueError, match="has no task arc; it has gsm8k, mmlu"):
        load_harness_results(write(tmp_path), tasks=["arc"])
