"""The final table of a run: this model, with what was measured of it, beside published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intensive_callbacks.benchmark.table import BenchmarkTable
    from intensive_callbacks.monitor.facts import ModelFacts


def final_table(
    model: str,
    task: str | None,
    *,
    facts: ModelFacts,
    measured: Mapping[str, float],
    errors: Mapping[str, float],
    benchmark: str | None,
) -> BenchmarkTable:
    """One row of this run and those of the baselines, of which its neighbors of the same task are featured.

    Args:
        model: its name.
        task: what it was tested on, "this run" where that is not said.
        facts: what is known of the model.
        measured: its newest values, by key.
        errors: their standard errors, by key.
        benchmark: the baselines: ``"auto"`` for those of language models where there are tokens and of vision models
            otherwise, ``"language"``, ``"vision"``, a path, or ``None``.
    """
    from intensive_callbacks.benchmark.baselines import load_baselines, neighbors
    from intensive_callbacks.benchmark.row import BenchmarkRow
    from intensive_callbacks.benchmark.table import BenchmarkTable

    row = BenchmarkRow(
        model=model,
        task=task or "this run",
        protocol="measured in this run",
        source="this run",
        measured=measured,
        measured_errors=errors,
        **facts.row(),
    )
    automatic = "language" if facts.has_tokens else "vision"
    baselines = automatic if benchmark == "auto" else benchmark
    published = neighbors(row, load_baselines(baselines)) if baselines else []
    note = ""
    if published and not any(other.featured for other in published):
        tasks = " or ".join(repr(name) for name in sorted({other.task for other in published}))
        note = (
            f"no published model is shown beside it: those of {baselines!r} were tested on {tasks}; if that is its "
            "task, pass task="
        )
    return BenchmarkTable([row, *published], note=note)
