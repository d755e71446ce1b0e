"""Rows from the files that lm-evaluation-harness writes: ``results.json``, and the samples beside it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.untrusted import parse_json, read_json

ACCURACIES = ("acc", "exact_match", "acc_norm")
_BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def load_harness_results(
    path: str | Path,
    *,
    tasks: list[str] | None = None,
    active_params: float | None = None,
    num_bytes: float | None = None,
    random_baseline: float | None = None,
) -> list[BenchmarkRow]:
    """One row per task of an lm-evaluation-harness run.

    The harness writes the number and format of a Hugging Face model's parameters, but not how many of them a token
    touches: without ``active_params`` the metrics that need them are undefined. Where the run logged its samples
    (``--log_samples``), the per-example results are read too, for a paired comparison.

    Args:
        path: a ``results*.json``, or the folder with the newest one.
        tasks: names of tasks or groups; by default those that belong to no group.
        active_params: parameters that one token touches; for a dense model all of them.
        num_bytes: resident weights; by default from the number of parameters and their format.
        random_baseline: the accuracy of chance; by default 1 / number of choices where the task has them.

    Returns:
        One row per task that has an accuracy (``acc``, else ``exact_match``, else ``acc_norm``).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a results file, or a figure in it cannot be true; the message says where.
    """
    file = _results_file(Path(path))
    results = _results(file)
    scores = _mapping(results, "results", file)
    if not scores:
        raise ValueError(f"{file} has no results")
    chosen = _roots(results, scores) if tasks is None else tasks
    unknown = [task for task in chosen if task not in scores]
    if unknown:
        raise ValueError(f"{file} has no task {', '.join(unknown)}; it has {', '.join(sorted(scores))}")
    given = {"active_params": active_params, "num_bytes": num_bytes, "random_baseline": random_baseline}
    rows = [_row(file, results, task, given) for task in chosen if _metric(scores[task]) is not None]
    if not rows:
        raise ValueError(f"{file}: none of {', '.join(chosen)} has an accuracy ({', '.join(ACCURACIES)})")
    return rows


def _results_file(path: Path) -> Path:
    files = sorted(path.rglob("results*.json"), key=lambda file: file.name) if path.is_dir() else [path]
    if not files or not files[-1].is_file():
        raise FileNotFoundError(f"no lm-evaluation-harness results at {path}: give results.json or its folder")
    return files[-1]


def _results(file: Path) -> dict[str, Any]:
    results = read_json(file)
    if not isinstance(results, dict):
        raise ValueError(f"{file} is not a results file: expected an object, got {type(results).__name__}")
    return results


def _mapping(results: dict[str, Any], key: str, file: Path) -> dict[str, dict[str, Any]]:
    value = results.get(key)
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise ValueError(f"{file} is not a results file of lm-evaluation-harness: it has no {key!r} by task")
    return value


def _section(results: dict[str, Any], key: str) -> dict[str, Any]:
    value = results.get(key)
    return value if isinstance(value, dict) else {}


def _parts(results: dict[str, Any], group: str) -> list[str]:
    parts = _section(results, "group_subtasks").get(group)
    return [part for part in parts if isinstance(part, str) and part != group] if isinstance(parts, list) else []


def _roots(results: dict[str, Any], scores: dict[str, dict[str, Any]]) -> list[str]:
    """The tasks that belong to no group."""
    parts = {part for group in _section(results, "group_subtasks") for part in _parts(results, group)}
    return [task for task in scores if task not in parts]


def _leaves(results: dict[str, Any], task: str) -> list[str]:
    """The tasks that a group consists of, through all levels; a task without parts is its own."""
    leaves, seen, waiting = [], set(), [task]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            parts = _parts(results, name)
            waiting += parts
            leaves += [] if parts else [name]
    return sorted(leaves)


def _metric(score: dict[str, Any]) -> str | None:
    """The key of a task's accuracy, such as ``acc,none``."""
    for accuracy in ACCURACIES:
        keys = sorted(key for key in score if key.partition(",")[0] == accuracy)
        if keys:
            return keys[0]
    return None


def _row(file: Path, results: dict[str, Any], task: str, given: dict[str, float | None]) -> BenchmarkRow:
    metric = str(_metric(results["results"][task]))
    leaves = _leaves(results, task)
    total_params = _positive(_section(results, "config").get("model_num_parameters"))
    known: dict[str, Any] = {
        "total_params": total_params,
        "num_bytes": _num_bytes(results, total_params),
        "random_baseline": _chance(results, leaves),
    }
    try:
        return BenchmarkRow(
            model=_model(results) or file.parent.name,
            task=task,
            protocol=f"lm-evaluation-harness, {_shots(results, leaves)}, {_scored_by(metric)}",
            source=f"lm-evaluation-harness {results.get('lm_eval_version', '')} {file.name}".replace("  ", " "),
            accuracy=_number(results["results"][task][metric]),
            num_examples=_num_examples(results, leaves),
            correct=_correct(file, leaves, metric),
            **{**known, **{name: value for name, value in given.items() if value is not None}},
        )
    except ValueError as error:
        raise ValueError(f"{file}, {task}, {metric}: {error}") from error


def _finite(value: Any) -> float:
    """``value`` as a number; NaN where it is not one."""
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _number(value: Any) -> float:
    if math.isnan(number := _finite(value)):
        raise ValueError(f"expected a number, got {value!r}")
    return number


def _positive(value: Any) -> float | None:
    """``value`` where it is a number above 0; the harness writes -1 for an unknown size."""
    return number if (number := _finite(value)) > 0 else None


def _model(results: dict[str, Any]) -> str:
    arguments = _section(results, "config").get("model_args")
    named = re.search(r"pretrained=([^,]+)", arguments) if isinstance(arguments, str) else None
    return str(results.get("model_name") or (named[1] if named else ""))


def _shots(results: dict[str, Any], leaves: list[str]) -> str:
    given = [_section(results, "n-shot").get(leaf) for leaf in leaves]
    shots = {shot for shot in given if isinstance(shot, int)}
    return f"{shots.pop()}-shot" if len(shots) == 1 else "shots vary" if shots else "shots not given"


def _scored_by(metric: str) -> str:
    """The metric, and the filter of the answers where there is one: scores of different filters are not comparable."""
    name, _, answers = metric.partition(",")
    return name if answers in ("", "none") else f"{name}, {answers}"


def _num_bytes(results: dict[str, Any], total_params: float | None) -> float | None:
    size = _BYTES_OF.get(str(_section(results, "config").get("model_dtype", "")).removeprefix("torch."))
    return total_params * size if total_params and size else None


def _chance(results: dict[str, Any], leaves: list[str]) -> float | None:
    configs = [_section(_section(results, "configs"), leaf) for leaf in leaves]
    choices = {len(choice) for config in configs if isinstance(choice := config.get("doc_to_choice"), list)}
    return 1 / choices.pop() if len(choices) == 1 and min(choices) > 1 else None


def _num_examples(results: dict[str, Any], leaves: list[str]) -> int | None:
    counts = [_positive(_section(_section(results, "n-samples"), leaf).get("effective")) for leaf in leaves]
    return int(sum(count for count in counts if count)) if all(counts) else None


def _correct(file: Path, leaves: list[str], metric: str) -> dict[tuple[str, str], bool] | None:
    """Whether each example was answered correctly, from the sample files of the run; ``None`` if one is missing."""
    stamp = file.stem.removeprefix("results").lstrip("_")
    name, _, chosen_filter = metric.partition(",")
    correct: dict[tuple[str, str], bool] = {}
    for leaf in leaves:
        samples = file.with_name(f"samples_{leaf}_{stamp}.jsonl" if stamp else f"samples_{leaf}.jsonl")
        if not samples.is_file():
            return None
        with samples.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                sample = _sample(line, f"{samples}, line {number}")
                if sample.get("filter", chosen_filter) == chosen_filter:
                    score = sample.get(name)
                    if score not in (0, 1):
                        raise ValueError(f"{samples}, line {number}: expected {name} to be 0 or 1, got {score!r}")
                    correct[leaf, str(sample.get("doc_id"))] = bool(score)
    return correct


def _sample(line: str, place: str) -> dict[str, Any]:
    sample = parse_json(line, place)
    if not isinstance(sample, dict):
        raise ValueError(f"{place}: expected an object, got {type(sample).__name__}")
    return sample
