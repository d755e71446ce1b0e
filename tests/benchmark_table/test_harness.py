import contextlib
import copy
import json
import re
import time

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
        (changed("results", "mmlu", "acc,none", value="high"), "mmlu, acc,none: expected a number, got 'high'"),
        (changed("results", "mmlu", "acc,none", value=[0.5]), "mmlu, acc,none: expected a number, got [0.5]"),
        ({"results": {"a": {"acc": float("nan")}, "b": {"acc": "N/A"}}}, "a, acc: expected a number, got nan"),
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


@pytest.mark.parametrize("value", [float("nan"), "N/A"])
def test_tasks_without_a_score_are_left_out_with_a_warning(tmp_path, value):
    path = write(tmp_path, changed("results", "mmlu", "acc,none", value=value))
    with pytest.warns(RuntimeWarning, match="the score of mmlu is NaN"):
        (row,) = load_harness_results(path)
    assert row.task == "gsm8k"
    with pytest.raises(ValueError, match=re.escape("mmlu, acc,none: expected a number")):
        load_harness_results(path, tasks=["mmlu"])


@pytest.mark.parametrize(
    ("metric", "accuracy"),
    [("exact_match", 0.42), ("exact_match,flexible-extract", 0.42), ("exact_match,strict-match", 0.4)],
)
def test_chosen_metric_and_filter_are_in_the_protocol(tmp_path, metric, accuracy):
    (row,) = load_harness_results(write(tmp_path), metric=metric)
    assert (row.task, row.accuracy) == ("gsm8k", accuracy)
    assert row.protocol.endswith("strict-match" if accuracy == 0.4 else "flexible-extract")
    with pytest.raises(ValueError, match=r"has an accuracy \(f1\)"):
        load_harness_results(tmp_path, metric="f1")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("chat_template", "{% for message in messages %}", "chat template"),
        ("fewshot_as_multiturn", True, "few-shot as multi-turn"),
        ("system_instruction", "Answer briefly.", "system instruction e6856247"),
    ],
)
def test_variants_of_a_test_are_other_protocols(tmp_path, key, value, said):
    plain, other = write(tmp_path / "a"), write(tmp_path / "b", {**RESULTS, key: value})
    protocol = load_harness_results(other)[0].protocol
    assert protocol == f"{load_harness_results(plain)[0].protocol}, {said}"


def test_limited_run_says_so_in_the_protocol(tmp_path):
    path = write(tmp_path, changed("config", "limit", value=100.0))
    assert load_harness_results(path)[0].protocol.endswith("acc, limited to 100 examples per task")


# As version 0.3 wrote it: no filters, one number of shots for all tasks.
FORMER = {
    "results": {"hellaswag": {"acc": 0.25, "acc_stderr": 0.1, "acc_norm": 0.5, "acc_norm_stderr": 0.1}},
    "versions": {"hellaswag": 0},
    "config": {"model": "hf-causal", "model_args": "pretrained=org/old", "num_fewshot": 10, "limit": None},
}


def test_file_of_version_0_3_is_read(tmp_path):
    (row,) = load_harness_results(write(tmp_path, FORMER))
    assert (row.model, row.accuracy) == ("org/old", 0.25)
    assert row.protocol == "lm-evaluation-harness, 10-shot, acc"
    (row,) = load_harness_results(tmp_path, metric="acc_norm")
    assert (row.protocol, row.accuracy) == ("lm-evaluation-harness, 10-shot, acc_norm", 0.5)


@pytest.mark.parametrize("arguments", ["pretrained=org/tiny,load_in_4bit=True", {"load_in_8bit": True}])
def test_bytes_of_a_quantized_model_are_not_guessed(tmp_path, arguments):
    path = write(tmp_path, changed("config", "model_args", value=arguments))
    with pytest.warns(RuntimeWarning, match=r"load_in_.bit; how many bytes it took is not known; pass num_bytes="):
        rows = load_harness_results(path)
    assert [row.num_bytes for row in rows] == [None, None]
    assert load_harness_results(path, num_bytes=6e5)[0].num_bytes == 6e5


@pytest.mark.parametrize("num_tasks", [1_500, 5_000])
def test_many_tasks_are_done_or_refused_at_once(tmp_path, num_tasks):
    names = [f"t{i}" for i in range(num_tasks)]
    results = {"results": {name: {"acc,none": 0.5} for name in names}}
    begun = time.monotonic()
    with contextlib.suppress(ValueError):
        load_harness_results(write(tmp_path, results))
    assert time.monotonic() - begun < 5


def test_samples_out_of_the_folder_are_not_read(tmp_path):
    outside = tmp_path / "private.jsonl"
    outside.write_text('{"doc_id": 0, "filter": "none", "acc": 1.0}', encoding="utf-8")
    path = write(tmp_path / "run", answers={})
    for task in ANSWERS:
        (path.parent / f"samples_{task}_2025-01-01T00-00-00.jsonl").symlink_to(outside)
    with pytest.raises(ValueError, match="lies outside"):
        load_harness_results(path)
