"""The published tables that have one row for MMLU, MMLU-Pro or GPQA and one column for each model.

Base and chat models, shots, thinking and who measured are in the protocol: no table that mixes evaluators is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FEATURED = "5-shot, evaluated by DeepSeek for V3"


@dataclass(frozen=True)
class Scores:
    """One row of a published table: the scores of several models on one task.

    Attributes:
        source: its name among the sources.
        after: text of a line above the row, from which on it is looked for.
        label: of the row.
        models: of its last columns; ``None`` for one that is not taken.
        task: what was tested.
        protocol: how, and by whom.
    """

    source: str
    after: str
    label: str
    models: tuple[str | None, ...]
    task: str
    protocol: str


def _table(source: str, after: str, models: str, rows: dict[str, tuple[str, str]]) -> Iterator[Scores]:
    """The rows of one table; its models are separated by blanks, those not taken are dashes."""
    names = tuple(None if name == "-" else name.replace("_", " ") for name in models.split())
    for label, (task, protocol) in rows.items():
        yield Scores(source, after, label, names, task, protocol)


def _qwen3() -> Iterator[Scores]:
    who = "evaluated by Qwen for Qwen3"
    rows = {
        "MMLU": ("MMLU", f"base models, 5-shot, {who}"),
        "MMLU-Pro": ("MMLU-Pro", f"base models, 5-shot CoT, {who}"),
        "GPQA": ("GPQA", f"base models, 5-shot CoT, {who}"),
    }
    for table, models in {
        "Table 3": "Qwen2.5-72B Qwen2.5-Plus Llama-4-Maverick DeepSeek-V3 Qwen3-235B-A22B",
        "Table 4": "Qwen2.5-32B Qwen2.5-72B Gemma-3-27B Llama-4-Scout Qwen3-32B",
        "Table 5": "Gemma-3-12B Qwen2.5-14B Qwen2.5-32B Qwen2.5-Turbo Qwen3-14B Qwen3-30B-A3B",
        "Table 6": "Llama-3-8B Qwen2.5-7B Qwen2.5-14B Qwen3-8B",
        "Table 7": "Gemma-3-4B Qwen2.5-3B Qwen2.5-7B Qwen3-4B",
        "Table 8": "Qwen2.5-0.5B Qwen3-0.6B Gemma-3-1B Qwen2.5-1.5B Qwen3-1.7B",
    }.items():
        yield from _table("qwen3", f"{table}: Comparison among Qwen", models, rows)


def _deepseek() -> Iterator[Scores]:
    v3 = "DeepSeek-V2 Qwen2.5-72B Llama-3.1-405B DeepSeek-V3"
    rows = {"MMLU (Acc.)": ("MMLU", FEATURED), "MMLU-Pro (Acc.)": ("MMLU-Pro", f"base models, {FEATURED}")}
    yield from _table("deepseek-v3", "Benchmark (Metric)", v3, rows)
    chat = "chat models, exact match, evaluated by DeepSeek for V3"
    yield from _table(
        "deepseek-v3",
        "DeepSeek V2-0506",
        "DeepSeek-V2 DeepSeek-V2.5 Qwen2.5-72B Llama-3.1-405B - - DeepSeek-V3",
        {
            "MMLU (EM)": ("MMLU", chat),
            "MMLU-Pro (EM)": ("MMLU-Pro", chat),
            "GPQA-Diamond (Pass@1)": ("GPQA-Diamond", "chat models, pass@1, evaluated by DeepSeek for V3"),
        },
    )
    v2 = {"MMLU": ("MMLU", "5-shot, evaluated by DeepSeek for V2")}
    large, small = "Llama-3-70B Mixtral-8x22B DeepSeek-67B DeepSeek-V2", "DeepSeek-7B DeepSeekMoE-16B DeepSeek-V2-Lite"
    yield from _table("deepseek-v2", "LLaMA3 70B", large, v2)
    yield from _table("deepseek-v2", "DeepSeek 7B (Dense)", small, v2)
    yield from _table(
        "deepseek-r1",
        "Claude-3.5-Sonnet-1022",
        "DeepSeek-V3 - - DeepSeek-R1",
        {
            "MMLU (Pass@1)": ("MMLU", "chat models, pass@1, evaluated by DeepSeek for R1"),
            "MMLU-Pro (EM)": ("MMLU-Pro", "chat models, exact match, evaluated by DeepSeek for R1"),
            "GPQA-Diamond (Pass@1)": ("GPQA-Diamond", "chat models, pass@1, evaluated by DeepSeek for R1"),
        },
    )
    exp = "thinking, no tools, evaluated by DeepSeek for V3.2-Exp"
    rows = {"MMLU-Pro": ("MMLU-Pro", exp), "GPQA-Diamond": ("GPQA-Diamond", exp)}
    yield from _table("deepseek-v3.2", "DeepSeek-V3.1-Terminus", "DeepSeek-V3.1-Terminus DeepSeek-V3.2-Exp", rows)


def _meta() -> Iterator[Scores]:
    macro = "(macro average)"
    yield from _table(
        "llama-3",
        "Llama 3 8B",
        "Llama-3-8B Llama-2-7B Llama-2-13B Llama-3-70B Llama-2-70B",
        {"MMLU (5-shot)": ("MMLU", f"5-shot, evaluated by Meta for Llama 3 {macro}")},
    )
    yield from _table(
        "llama-3.1",
        "Base pretrained models",
        "Llama-3-8B Llama-3.1-8B Llama-3-70B Llama-3.1-70B Llama-3.1-405B",
        {
            "MMLU": ("MMLU", f"base models, 5-shot, evaluated by Meta for Llama 3.1 {macro}"),
            "MMLU-Pro (CoT)": ("MMLU-Pro", f"base models, 5-shot CoT, evaluated by Meta for Llama 3.1 {macro}"),
        },
    )
    yield from _table(
        "llama-3.2",
        "Base Pretrained Models",
        "Llama-3.2-1B Llama-3.2-3B Llama-3.1-8B",
        {"MMLU": ("MMLU", f"base models, 5-shot, evaluated by Meta for Llama 3.2 {macro}")},
    )
    yield from _table(
        "llama-3.3",
        "Llama-3.3 70B Instruct",
        "Llama-3.1-8B Llama-3.1-70B Llama-3.3-70B Llama-3.1-405B",
        {
            "MMLU (CoT)": ("MMLU", f"chat models, 0-shot CoT, evaluated by Meta for Llama 3.3 {macro}"),
            "MMLU Pro (CoT)": ("MMLU-Pro", f"chat models, 5-shot CoT, evaluated by Meta for Llama 3.3 {macro}"),
            "GPQA Diamond (CoT)": ("GPQA-Diamond", "chat models, 0-shot CoT, evaluated by Meta for Llama 3.3"),
        },
    )
    base = "Llama-3.1-70B Llama-3.1-405B Llama-4-Scout Llama-4-Maverick"
    yield from _table(
        "llama-4",
        "Pre-trained models",
        base,
        {
            "MMLU": ("MMLU", f"base models, 5-shot, evaluated by Meta for Llama 4 {macro}"),
            "MMLU-Pro": ("MMLU-Pro", f"base models, 5-shot, evaluated by Meta for Llama 4 {macro}"),
        },
    )
    chat = "Llama-3.3-70B Llama-3.1-405B Llama-4-Scout Llama-4-Maverick"
    yield from _table(
        "llama-4",
        "Instruction tuned models",
        chat,
        {
            "MMLU Pro": ("MMLU-Pro", f"chat models, 0-shot, evaluated by Meta for Llama 4 {macro}"),
            "GPQA Diamond": ("GPQA-Diamond", "chat models, 0-shot, evaluated by Meta for Llama 4"),
        },
    )


def _others() -> Iterator[Scores]:
    who = "evaluated by Moonshot AI for Kimi K2"
    yield from _table(
        "kimi-k2",
        "Kimi K2 Base",
        "Kimi-K2 DeepSeek-V3 Qwen2.5-72B Llama-4-Maverick",
        {
            "MMLU": ("MMLU", f"base models, 5-shot, {who}"),
            "MMLU-pro": ("MMLU-Pro", f"base models, 5-shot, {who}"),
            "GPQA-Diamond": ("GPQA-Diamond", f"base models, 5-shot, mean of 8, {who}"),
        },
    )
    yield from _table(
        "kimi-k2",
        "Kimi K2 Instruct",
        "Kimi-K2 DeepSeek-V3-0324 Qwen3-235B-A22B - - - -",
        {
            "MMLU": ("MMLU", f"chat models, not thinking, {who}"),
            "MMLU-Pro": ("MMLU-Pro", f"chat models, not thinking, {who}"),
        },
    )
    who = "evaluated by Meituan for LongCat-Flash"
    yield from _table(
        "longcat",
        "DeepSeek V3.1",
        "DeepSeek-V3.1 Qwen3-235B-A22B-Instruct-2507 Kimi-K2 - - - LongCat-Flash",
        {
            "MMLU(acc)": ("MMLU", f"chat models, not thinking, {who}"),
            "MMLU-Pro(acc)": ("MMLU-Pro", f"chat models, not thinking, {who}"),
            "GPQA-diamond(acc)": ("GPQA-Diamond", f"chat models, not thinking, {who}"),
        },
    )
    who = "evaluated by rednote for dots.llm1"
    yield from _table(
        "dots1",
        "Architecture - Dense Dense MoE MoE MoE",
        "Qwen2.5-32B Qwen2.5-72B DeepSeek-V2 DeepSeek-V3 dots.llm1",
        {
            "MMLU (EM)": ("MMLU", f"base models, 5-shot, {who}"),
            "MMLU-Pro (EM)": ("MMLU-Pro", f"base models, 5-shot, {who}"),
        },
    )
    yield from _table(
        "dots1",
        "Table 5: Comparison between dots.llm1.inst",
        "Qwen2.5-32B Qwen2.5-72B Qwen3-32B Qwen3-235B-A22B DeepSeek-V2 DeepSeek-V3 - dots.llm1",
        {
            "MMLU (EM)": ("MMLU", f"chat models, not thinking, {who}"),
            "MMLU-Pro (EM)": ("MMLU-Pro", f"chat models, not thinking, {who}"),
            "GPQA Diamond (Pass@1)": ("GPQA-Diamond", f"chat models, not thinking, {who}"),
        },
    )
    who = "evaluated by ByteDance for Seed-OSS"
    tasks = {"MMLU": "MMLU", "MMLU-Pro": "MMLU-Pro", "GPQA-D": "GPQA-Diamond"}
    yield from _table(
        "seed-oss",
        "Seed1.6-Base",
        "- - Qwen2.5-32B Seed-OSS-36B Seed-OSS-36B-woSyn",
        {label: (task, f"base models, {who}") for label, task in tasks.items()},
    )
    yield from _table(
        "seed-oss",
        "Seed1.6-Thinking-0715",
        "gpt-oss-20b Qwen3-30B-A3B-Thinking-2507 Qwen3-32B - Seed-OSS-36B",
        {label: (task, f"thinking models, {who}") for label, task in tasks.items()},
    )
    who = "evaluated by Tencent for Hunyuan-A13B"
    yield from _table(
        "hunyuan-a13b",
        "Hunyuan-Large",
        "Hunyuan-Large - - Hunyuan-A13B",
        {label: (label, f"base models, 5-shot, {who}") for label in ("MMLU", "MMLU-Pro")},
    )
    yield from _table(
        "mimo-v2",
        "MiMo-V2-Flash Base",
        "MiMo-V2-Flash - DeepSeek-V3.1 DeepSeek-V3.2-Exp",
        {
            label: (label, "base models, 5-shot, evaluated by Xiaomi for MiMo-V2-Flash")
            for label in ("MMLU", "MMLU-Pro", "GPQA-Diamond")
        },
    )
    who = "evaluated by Artificial Analysis, MiniMax-M2 by MiniMax with its methodology"
    yield from _table(
        "minimax-m2",
        "Metric (AA)",
        "MiniMax-M2 - - - - GLM-4.6 Kimi-K2-0905 DeepSeek-V3.2",
        {label: (label, f"chat models, {who}") for label in ("MMLU-Pro", "GPQA-Diamond")},
    )
    who = "evaluated by Tencent for its dense Hunyuan models"
    yield from _table(
        "hunyuan-7b",
        "Hunyuan-0.5B-Pretrain",
        "Hunyuan-0.5B Hunyuan-1.8B Hunyuan-4B Hunyuan-7B",
        {label: (label, f"base models, {who}") for label in ("MMLU", "MMLU-Pro", "GPQA")},
    )
    yield from _table(
        "minimax-m1",
        "MiniMax-M1-80K",
        "MiniMax-M1-80K MiniMax-M1-40K - - - - - - -",
        {
            "MMLU-Pro": ("MMLU-Pro", "thinking models, evaluated by MiniMax for MiniMax-M1"),
            "GPQA Diamond": ("GPQA-Diamond", "thinking models, evaluated by MiniMax for MiniMax-M1"),
        },
    )
    who = "evaluated by Ant Group for Ling-lite-1.5"
    yield from _table(
        "ling",
        "Ling-lite-1.5",
        "Ling-lite-1.5 Ling-lite Qwen3-4B Qwen3-8B Moonlight-16B-A3B Llama-3.1-8B",
        {"MMLU(EM)": ("MMLU", f"chat models, 5-shot, {who}"), "GPQA(Pass@1)": ("GPQA", f"chat models, 0-shot, {who}")},
    )
    who = "evaluated by IBM for Granite 3.0"
    for after, models in {
        "Parameters 2B 3B 2B 7B 8B 8B": "Gemma-2-2B Llama-3.2-3B Granite-3.0-2B Mistral-7B Llama-3.1-8B Granite-3.0-8B",
        "Active parameters 360M 400M 1B 1.7B 800M": (
            "SmolLM-360M Granite-3.0-1B-A400M Llama-3.2-1B SmolLM-1.7B Granite-3.0-3B-A800M"
        ),
    }.items():
        rows = {label: (label, f"base models, 5-shot, {who}") for label in ("MMLU", "MMLU-Pro")}
        yield from _table("granite-3", after, models, rows)
    who = "evaluated by Microsoft for Phi-3.5-MoE"
    yield from _table(
        "phi-3.5-moe",
        "Phi-3.5-MoE-instruct",
        "Phi-3.5-MoE Mistral-Nemo-12B Llama-3.1-8B Gemma-2-9B - -",
        {
            "MMLU (5-shot)": ("MMLU", f"chat models, 5-shot, {who}"),
            "MMLU-Pro (0-shot, CoT)": ("MMLU-Pro", f"chat models, 0-shot CoT, {who}"),
            "GPQA (0-shot, CoT)": ("GPQA", f"chat models, 0-shot CoT, {who}"),
        },
    )
    yield from _table(
        "phi-4",
        "phi-4 (14B)",
        "Phi-4 Phi-3-14B Qwen2.5-14B - Llama-3.3-70B Qwen2.5-72B -",
        {
            "MMLU": ("MMLU", "chat models, simple-evals, evaluated by Microsoft for Phi-4"),
            "GPQA": ("GPQA", "chat models, simple-evals, evaluated by Microsoft for Phi-4"),
        },
    )


def score_rows() -> Iterator[Scores]:
    """All of them, in the order of their publishers."""
    yield from _deepseek()
    yield from _qwen3()
    yield from _meta()
    yield from _others()
