"""Rows from the files that lm-evaluation-harness writes: ``results.json``, and the samples beside it."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.boundary import warn
from intensive_callbacks.untrusted import MAX_NAME, parse_json, printable, read_bytes, read_json, short_name

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TASKS, MAX_PARTS, MAX_SAMPLES = 2_000, 5_000, 500_000_000
ACCURACIES = ("acc", "exact_match", "acc_norm")
_BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def load_harness_results(
    path: str | Path,
    *,
    tasks: list[str] | None = None,
    metric: str | None = None,
    active_params: float | None = None,
    num_bytes: float | None = None,
    random_baseline: float | None = None,
) -> list[BenchmarkRow]:
    """One row per task of an lm-evaluation-harness run, of version 0.3 or later.

    The harness writes the number and format of a Hugging Face model's parameters, but not how many of them a token
    touches: without ``active_params`` the metrics that need them are undefined. Where the run logged its samples
    (``--log_samples``), the per-example results are read too, for a paired comparison. The protocol names what makes
    scores incomparable: shots, metric, filter, chat template, system instruction and a limited number of examples.

    Args:
        path: a ``results*.json``, or the folder with the newest one.
        tasks: names of tasks or groups; by default those that belong to no group.
        metric: the score to read, such as ``"acc_norm"``, or one filter's, such as ``"exact_match,strict-match"``; by
            default the first of ``acc``, ``exact_match`` and ``acc_norm`` that a task has.
        active_params: parameters that one token touches; for a dense model all of them.
        num_bytes: resident weights; by default from the number of parameters and their format. The harness does not
            write how many parameters of a model in 4 or 8 bits are in that format, so that there is no default.
        random_baseline: the accuracy of chance; by default 1 / number of choices where the task has them.

    Returns:
        One row per task that has such a score. Tasks whose score is NaN are left out with a warning.

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
    if len(chosen) > MAX_TASKS:
        raise ValueError(f"{file} has {len(chosen):,} tasks; expected at most {MAX_TASKS:,}: name some with tasks=")
    unknown = [task for task in chosen if task not in scores]
    if unknown:
        raise ValueError(f"{file} has no task {', '.join(unknown)}; it has {', '.join(sorted(scores))}")
    wanted = ACCURACIES if metric is None else (metric,)
    keys = {task: key for task in chosen if (key := _metric(scores[task], wanted)) is not None}
    if not keys:
        raise ValueError(f"{file}: none of {', '.join(chosen)} has an accuracy ({', '.join(wanted)})")
    undefined = [task for task, key in keys.items() if _is_nan(scores[task][key])]
    if undefined and len(undefined) < len(keys) and tasks is None:
        warn(f"{file}: the score of {', '.join(map(short_name, undefined))} is NaN; it gets no row")
        keys = {task: key for task, key in keys.items() if task not in undefined}
    quantized = _quantized(results)
    if quantized and num_bytes is None:
        warn(f"{file}: the model was loaded with {quantized}; how many bytes it took is not known; pass num_bytes=")
    given = {"active_params": active_params, "num_bytes": num_bytes, "random_baseline": random_baseline}
    return [_row(file, results, task, key, given) for task, key in keys.items()]


def _is_nan(score: Any) -> bool:
    return score in ("N/A", "NaN", "nan") or (isinstance(score, float) and math.isnan(score))


def _results_file(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no lm-evaluation-harness results at {path}: give results.json or its folder")
        return path
    files = sorted((file for file in path.rglob("results*.json") if file.is_file()), key=lambda file: file.name)
    if not files:
        raise FileNotFoundError(f"no lm-evaluation-harness results at {path}: give results.json or its folder")
    if not files[-1].resolve().is_relative_to(path.resolve()):
        raise ValueError(f"{files[-1]} leads out of {path} and is not read")
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
            if len(waiting) + len(seen) > MAX_PARTS:
                raise ValueError(f"the group {short_name(task)} has more than {MAX_PARTS:,} tasks in it")
            leaves += [] if parts else [name]
    return sorted(leaves)


def _metric(score: dict[str, Any], wanted: Sequence[str]) -> str | None:
    """The key of a task's score, such as ``acc,none`` or, in version 0.3, ``acc``."""
    for name in wanted:
        keys = sorted(key for key in score if name in (key, key.partition(",")[0]))
        if keys:
            return keys[0]
    return None


def _row(file: Path, results: dict[str, Any], task: str, metric: str, given: dict[str, float | None]) -> BenchmarkRow:
    try:
        leaves = _leaves(results, task)
        total_params = _positive(_section(results, "config").get("model_num_parameters"))
        known: dict[str, Any] = {
            "total_params": total_params,
            "num_bytes": _num_bytes(results, total_params),
            "random_baseline": _chance(results, leaves),
        }
        version = results.get("lm_eval_version")
        return BenchmarkRow(
            model=_model(results) or short_name(file.parent.name),
            task=short_name(task),
            protocol=", ".join(
                ["lm-evaluation-harness", _shots(results, leaves), _scored_by(metric), *_variants(results)]
            ),
            source=" ".join(["lm-evaluation-harness", *([short_name(version)] if version else []), file.name]),
            accuracy=_number(results["results"][task][metric]),
            num_examples=_num_examples(results, leaves),
            correct=_correct(file, leaves, metric),
            **{**known, **{name: value for name, value in given.items() if value is not None}},
        )
    except ValueError as error:
        raise ValueError(f"{file}, {short_name(task)}, {metric}: {error}") from error


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


def _arguments(results: dict[str, Any]) -> dict[str, str]:
    """The arguments of the model, which the harness writes as a text or as an object."""
    given = _section(results, "config").get("model_args")
    if isinstance(given, dict):
        return {str(name): str(value) for name, value in given.items()}
    pairs = (pair.partition("=") for pair in given.split(",")) if isinstance(given, str) else ()
    return {name.strip(): value.strip() for name, _, value in pairs}


def _model(results: dict[str, Any]) -> str:
    return short_name(results.get("model_name") or _arguments(results).get("pretrained") or "")


def _shots(results: dict[str, Any], leaves: list[str]) -> str:
    given = [_section(results, "n-shot").get(leaf) for leaf in leaves]
    if "n-shot" not in results:  # as version 0.3 has it
        given = [_section(results, "config").get("num_fewshot")]
    shots = {shot for shot in given if isinstance(shot, int)}
    return f"{shots.pop()}-shot" if len(shots) == 1 else "shots vary" if shots else "shots not given"


def _scored_by(metric: str) -> str:
    """The metric, and the filter of the answers where there is one: scores of different filters are not comparable."""
    name, _, answers = metric.partition(",")
    return short_name(name if answers in ("", "none") else f"{name}, {answers}")


def _variants(results: dict[str, Any]) -> list[str]:
    """What else changes the test: how the model was prompted, and how many of the examples were run."""
    said = []
    if results.get("chat_template"):
        said.append("chat template")
    if results.get("fewshot_as_multiturn"):
        said.append("few-shot as multi-turn")
    if isinstance(instruction := results.get("system_instruction"), str) and instruction:
        said.append(f"system instruction {hashlib.sha256(instruction.encode('utf-8', 'replace')).hexdigest()[:8]}")
    limit = _positive(_section(results, "config").get("limit"))
    if limit is not None:
        said.append(f"limited to {limit:g}" + (" of the examples" if limit < 1 else " examples per task"))
    return said


def _quantized(results: dict[str, Any]) -> str:
    """The argument that loaded the model in 4 or 8 bits, if one did."""
    arguments = _arguments(results)
    flags = [name for name in ("load_in_4bit", "load_in_8bit") if arguments.get(name, "").lower() in ("true", "1")]
    named = [name for name in ("autogptq", "gptqmodel") if arguments.get(name, "false").lower() not in ("", "false")]
    config = [name for name in arguments if name == "quantization_config"]
    return " ".join([*flags, *named, *config])


def _num_bytes(results: dict[str, Any], total_params: float | None) -> float | None:
    if _quantized(results):
        return None
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
    names = [f"samples_{leaf}_{stamp}.jsonl" if stamp else f"samples_{leaf}.jsonl" for leaf in leaves]
    if any(len(found) > MAX_NAME or Path(found).name != found for found in names):
        return None
    places = [file.with_name(found) for found in names]
    if not all(place.is_file() for place in places):
        return None
    if sum(place.stat().st_size for place in places) > MAX_SAMPLES:
        warn(f"{file}: its samples have more than {MAX_SAMPLES:,} bytes and are not read: no comparison")
        return None
    for leaf, samples in zip(leaves, places, strict=True):
        lines = read_bytes(samples, within=file.parent).decode("utf-8", "replace").split("\n")
        for number, line in enumerate(lines, 1):
            sample = _sample(line, f"{samples}, line {number}") if line.strip() else {"filter": None}
            if sample.get("filter", chosen_filter) == chosen_filter:
                score = sample.get(name)
                if isinstance(score, (list, dict)) or score not in (0, 1):
                    shown = printable(repr(score), 80)
                    raise ValueError(f"{samples}, line {number}: expected {name} to be 0 or 1, got {shown}")
                correct[leaf, short_name(sample.get("doc_id"))] = bool(score)
    return correct


def _sample(line: str, place: str) -> dict[str, Any]:
    sample = parse_json(line, place)
    if not isinstance(sample, dict):
        raise ValueError(f"{place}: expected an object, got {type(sample).__name__}")
    return sample
