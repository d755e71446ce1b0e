"""A second reader of the shipped tables, which shares no code with the scripts that make them."""

import csv
import json
import math
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from generate.page import PAGE, page
from intensive_callbacks import load_baselines
from intensive_callbacks.functional import intelligence_density

BASELINES = Path(__file__).parents[2] / "intensive_callbacks" / "benchmark" / "baselines"


def lines(name):
    with (BASELINES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def exact(text):
    return Fraction(text)


@pytest.mark.parametrize("name", ["language", "vision", "vision-language", "density"])
def test_derived_cells_follow_from_the_printed_ones(name):
    for cells in lines(name):
        assert exact(cells["accuracy"]) == exact(cells["printed"]) / 100
        if cells["url"].startswith("https://arxiv.org/abs/"):
            assert f"arXiv:{cells['url'].rpartition('/')[2]})" in cells["source"]
            continue
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/[\w./-]+", cells["url"])
        repository, commit = cells["url"].split("/blob/")[0].removeprefix("https://"), cells["url"].split("/")[6]
        assert f"({repository}, {commit[:7]}" in cells["source"]


def half_step(text):
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def test_density_gives_what_its_source_prints():
    rows = {row.model: row for row in load_baselines("density")}
    assert len(rows) == 34
    for cells in lines("density"):
        row, base = rows[cells["model"]], {"e": math.e, "2": 2.0}[cells["log_base"]]
        assert exact(cells["num_bytes"]) == exact(cells["printed_gb"]) * 10**9
        size, score, density = (cells[name] for name in ("printed_gb", "printed", "printed_density"))
        # Printed from unrounded sizes and scores, so only what all three roundings allow is asked for.
        low = -math.log(1 - (float(score) - half_step(score)) / 100) / (float(size) + half_step(size))
        high = -math.log(1 - (float(score) + half_step(score)) / 100) / (float(size) - half_step(size))
        assert low - half_step(density) <= float(density) * math.log(base) <= high + half_step(density)
        assert low <= float(intelligence_density(row.accuracy, num_bytes=row.num_bytes)) <= high


def printed_size(text):
    return exact(text[:-1]) * {"M": 10**6, "B": 10**9, "T": 10**12}[text[-1]]


def test_sizes_of_language_models_are_counted_or_published():
    counted = json.loads((BASELINES.parents[2] / "tests" / "data" / "counted_models.json").read_text(encoding="utf-8"))
    for cells in lines("language"):
        total, active = exact(cells["total_params"]), exact(cells["active_params"])
        if cells["configuration"]:
            figures = counted[cells["configuration"]]
            assert (total, active) == (figures["total"], figures["active"])
            published = printed_size(cells["published_active"])
            others = [figures[name] for name in figures if name.startswith("active")]
            assert abs(figures[cells["convention"]] - published) == min(abs(figure - published) for figure in others)
        else:
            assert total == printed_size(cells["published_total"])
            assert active == printed_size(cells["published_active"])
            assert cells["convention"] == "as published"
        if cells["bytes_per_param"]:
            assert exact(cells["num_bytes"]) == total * exact(cells["bytes_per_param"])
        assert (
            cells["num_examples"]
            == {"MMLU": "14042", "MMLU-Pro": "12032", "GPQA-Diamond": "198", "GPQA": ""}[cells["task"]]
        )


# Released in the second half of 2024 or later, by the sources; the mixtures are those with inactive parameters.
RECENT = re.compile(
    r"Qwen2\.5|Qwen3|Gemma-3|Llama-3\.[123]|Llama-4|DeepSeek-(V2\.5|V3|R1)|Kimi|Hunyuan|dots|LongCat|MiMo|MiniMax|GLM|Seed-OSS"
    r"|gpt-oss|Ling|Moonlight|Granite|Phi-3\.5|Phi-4|Falcon3|Gemma-4|Nemotron|Olmo-3|Mistral-Nemo"
)


def test_recent_models_are_many_and_their_protocols_name_who_asked():
    cells = lines("language")
    recent = {
        (row["model"], row["total_params"] != row["active_params"]) for row in cells if RECENT.match(row["model"])
    }
    assert len(recent) >= 40
    assert sum(sparse for _, sparse in recent) >= 15
    assert all(re.search(r"evaluated by|lm-evaluation-harness|leaderboard of", row["protocol"]) for row in cells)
    groups = Counter((row["task"], row["protocol"]) for row in cells)
    assert min(groups.values()) > 1


def test_figures_of_vision_models_follow_from_those_of_timm():
    for cells in lines("vision"):
        assert exact(cells["total_params"]) == exact(cells["active_params"]) == exact(cells["printed_params"]) * 10**6
        assert exact(cells["num_flops"]) == 2 * exact(cells["printed_gmacs"]) * 10**9  # a MAC is two operations
        assert exact(cells["num_bytes"]) == 4 * exact(cells["total_params"])
        assert f", {cells['image_size']} px;" in cells["source"]
        assert float(cells["samples_per_second_rtx4090"]) > 0
    families = ("convnextv2_", "eva02_", "efficientvit_", "mobilenetv4_", "vit_so400m_patch14_siglip")
    assert all(sum(cells["model"].startswith(family) for cells in lines("vision")) >= 2 for family in families)


def test_sizes_of_vision_language_models_are_counted_or_published():
    counted = json.loads((BASELINES.parents[2] / "tests" / "data" / "counted_models.json").read_text(encoding="utf-8"))
    for cells in lines("vision-language"):
        total = (
            counted[cells["configuration"]]["total"]
            if cells["configuration"]
            else printed_size(cells["published_total"])
        )
        assert exact(cells["total_params"]) == exact(cells["active_params"]) == total
        assert exact(cells["num_bytes"]) == 2 * total


def test_the_tables_of_the_page_are_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/generate/page.py"


@pytest.mark.parametrize(
    ("model", "layers", "experts", "memory"), [("gpt-oss-20b", 24, 32, 16e9), ("gpt-oss-120b", 36, 128, 80e9)]
)
def test_bytes_of_mixed_precision_checkpoints(model, layers, experts, memory):
    # An expert maps 2880 to twice 2880 and back; each 32 of its elements take 16 bytes and one of scale. The README of
    # gpt-oss says that the models run in 16 GB and on one GPU of 80 GB.
    elements = layers * experts * (2880 * 2 * 2880 + 2880 * 2880)
    for cells in lines("language"):
        if cells["model"] == model:
            assert int(cells["num_bytes"]) == elements * 17 // 32 + 2 * (int(cells["total_params"]) - elements) < memory
