"""A row from a transformers config and an accuracy: the parameters are counted, nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.footprint.parameters import count_parameters
from intensive_callbacks.footprint.targets import read_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def row_of_config(config: str | Path | PretrainedConfig, **known: Any) -> BenchmarkRow:
    """The row of a model of which only the config is available.

    The model is built on the meta device, without memory. Its active parameters include both embeddings; publishers
    differ in that, so compare only rows that were counted in the same way.

    Args:
        config: a transformers config, or the path of its ``config.json`` or of the folder that holds it.
        known: the other fields of :class:`BenchmarkRow`: model, task, protocol, source, accuracy and whatever else is
            known.

    Raises:
        FileNotFoundError: if there is no such file: names of models are not looked up.
        ValueError: if the config is not one of a causal language model of the installed transformers, or a figure
            cannot be true.

    Example:
        >>> from transformers import MixtralConfig
        >>> config = MixtralConfig(vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        ...                        num_attention_heads=4, num_key_value_heads=4)  # two of eight experts
        >>> row = row_of_config(config, model="tiny", task="MMLU", protocol="5-shot", source="here", accuracy=0.3)
        >>> int(row.total_params), int(row.active_params)
        (555328, 260416)
    """
    from transformers import AutoModelForCausalLM

    if isinstance(config, (str, Path)):
        if not Path(config).exists():
            raise FileNotFoundError(f"no config at {config}: give the path of a config.json; nothing is downloaded")
        path = Path(config)
        config = read_config(path / "config.json" if path.is_dir() else path)
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=dtype)
    count = count_parameters(model)
    counted = {"total_params": count.total, "active_params": count.active, "num_bytes": count.num_bytes}
    return BenchmarkRow(**{**counted, **known})
