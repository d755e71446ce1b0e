"""Every generated file: ``make generate`` writes them, a test checks that they are current."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks import family_exponents
from intensive_callbacks import BenchmarkTable, cards, dashboards, load_baselines
from pages import metrics_table

METRICS_PAGE = "intensive_callbacks/metrics/README.md"
ROOT = Path(__file__).parents[1]
BENCHMARK_PAGE = "intensive_callbacks/benchmark/README.md"
SEED_VISION = (
    "resnet50.tv_in1k",
    "efficientnet_b0.ra_in1k",
    "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "deit_base_patch16_224.fb_in1k",
    "vit_huge_patch14_clip_224.laion2b_ft_in12k_in1k",
    "mobilenetv3_large_100.ra_in1k",
)


def between(text: str, name: str, content: str) -> str:
    """The text with the part between ``<!-- name -->`` and ``<!-- /name -->`` replaced."""
    pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has no section {name}")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def readme() -> str:
    """The README with the current quickstart and table of keys."""
    text = (ROOT / "README.md").read_text()
    quickstart = (ROOT / "examples/00_quickstart.py").read_text()
    text = between(text, "quickstart", f"```python\n{quickstart}```")
    return between(text, "keys", cards.markdown_table())


def metrics_page() -> str:
    """The page of the metrics with the table of their cards."""
    text = between((ROOT / METRICS_PAGE).read_text(), "cards", metrics_table())
    return between(text, "families", family_exponents.table())


def benchmark_page() -> str:
    """The page of the benchmark with its computed leaderboards."""
    text = (ROOT / BENCHMARK_PAGE).read_text()
    language = [row for row in load_baselines("language") if row.featured or "leaderboard of the test" in row.protocol]
    vision = [row for row in load_baselines("vision") if row.model in SEED_VISION]
    text = between(text, "language", BenchmarkTable(language, sort="P3").to_markdown().rstrip())
    text = between(text, "vision", BenchmarkTable(vision, sort="P2F").to_markdown().rstrip())
    table = BenchmarkTable(load_baselines("vision-language"), sort="accuracy")
    return between(text, "vision-language", table.to_markdown().rstrip())


def generated() -> dict[str, str]:
    """The text of every generated file by its path."""
    pages = {"README.md": readme(), METRICS_PAGE: metrics_page(), BENCHMARK_PAGE: benchmark_page()}
    return {**pages, **dashboards.generated()}


if __name__ == "__main__":
    for path, text in generated().items():
        if not (ROOT / path).exists() or (ROOT / path).read_text() != text:
            (ROOT / path).write_text(text)
            sys.stdout.write(f"wrote {path}\n")
