"""From a name to a model and a batch for it, with no weights and no network."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intensive_callbacks.untrusted import printable, read_json, reason

__all__ = ["Target", "resolve"]


MAX_LAYERS, MAX_EXPERTS, MAX_SIZE = 1_000, 10_000, 1e12


@dataclass(frozen=True)
class Target:
    """A model to be profiled.

    Attributes:
        model: on the meta device where it was built from a config.
        args: the inputs of one forward pass; empty where none is known.
        kwargs: its inputs by keyword.
        unit: what the batch consists of: ``"token"`` or ``"example"``.
        num_units: how many of them.
    """

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    unit: str = "example"
    num_units: int = 1

    @property
    def has_batch(self) -> bool:
        """Whether there is something to run."""
        return bool(self.args or self.kwargs)


def resolve(name: str, sequence_length: int = 2048) -> Target:
    """Find and build what a name stands for; nothing is downloaded.

    Args:
        name: ``"module:factory"``, where the factory returns a model, or a model and its batch (a tensor, a tuple of
            inputs or a dict of them); or a transformers config file, or a folder that holds one; or the name of a
            transformers config class, for the model of its default values.
        sequence_length: tokens in the batch of a language model.

    Raises:
        ValueError: if the name stands for nothing; the message says what was tried.

    Example:
        >>> resolve("torch.nn:Identity").model
        Identity()
    """
    module, colon, factory = name.partition(":")
    if colon and not Path(name).exists():
        return _from_factory(module, factory)
    os.environ["HF_HUB_OFFLINE"] = "1"
    path = Path(name)
    path = path / "config.json" if path.is_dir() else path
    config = read_config(path) if path.is_file() else _default_config(name)
    return _from_config(config, sequence_length)


def _from_factory(module: str, factory: str) -> Target:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        build = getattr(import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot find {factory!r} in module {module!r}: {error}") from error
    made = build()
    if isinstance(made, nn.Module):
        return Target(made)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise ValueError(f"{module}:{factory} must return a model, or a model and its batch; got {type(made).__name__}")
    model, batch = made
    if isinstance(batch, dict):
        return Target(model, kwargs=batch, **_units(batch.get("input_ids"), next(iter(batch.values()), None)))
    args = batch if isinstance(batch, tuple) else (batch,)
    return Target(model, args, **_units(None, args[0] if args else None))


def _units(ids: Any, first: Any) -> dict[str, Any]:
    """Token ids are counted one by one; anything else by its rows."""
    if ids is None and isinstance(first, Tensor) and not first.is_floating_point() and first.dim() == 2:
        ids = first
    if isinstance(ids, Tensor):
        return {"unit": "token", "num_units": ids.numel()}
    return {"unit": "example", "num_units": len(first) if isinstance(first, Tensor) and first.dim() else 1}


def read_config(path: Path) -> Any:
    """The transformers config that a ``config.json`` holds; no code of a model repository is run.

    Raises:
        OSError: if there is no such file or it may not be read.
        ValueError: if it is no config of a model that transformers knows, or no model has such sizes.
    """
    from transformers import AutoConfig

    values = read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise ValueError(
            f"{path} is no config of a model that transformers knows: it needs an object with a model_type"
        )
    _require_buildable(values, path)
    kind = values.pop("model_type")
    try:
        return AutoConfig.for_model(kind, **values)
    except Exception as error:
        own_code = "; custom code (its auto_map) is never run" if "auto_map" in values else ""
        why = printable(reason(error), 200)
        raise ValueError(f"{path} is no config of a model that transformers knows: {why}{own_code}") from error


def _require_buildable(values: dict[str, Any], path: Path) -> None:
    """Refuse more modules than any model has: each is a Python object, also without memory for its weights."""
    waiting = [(str(key), value) for key, value in values.items()]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(inner), each) for inner, each in value.items()]
        elif isinstance(value, list):
            waiting += [(key, each) for each in value]
        elif isinstance(value, (int, float)) and value > _limit(key):
            raise ValueError(f"{path}: {key} is {value:g}; expected at most {_limit(key):g}")


def _limit(key: str) -> float:
    if re.search("layer|depth|block|stage", key) and not re.search("size|dim|position|width", key):
        return MAX_LAYERS
    return MAX_EXPERTS if "expert" in key and not re.search("size|dim|capacity", key) else MAX_SIZE


def _default_config(name: str) -> Any:
    import transformers

    config = getattr(transformers, name, None)
    if not (isinstance(config, type) and issubclass(config, transformers.PretrainedConfig)):
        raise ValueError(
            f"{name!r} is no file, no module:factory and no config class of transformers {transformers.__version__}"
        )
    return config()


def _from_config(config: Any, sequence_length: int) -> Target:
    import transformers

    named = [getattr(transformers, name, None) for name in getattr(config, "architectures", None) or ()]
    with torch.device("meta"):
        if named and named[0] is not None:
            model = named[0](config)
        elif type(config) in transformers.AutoModelForCausalLM._model_mapping:  # noqa: SLF001 - asks without trying
            model = transformers.AutoModelForCausalLM.from_config(config)
        else:
            model = transformers.AutoModel.from_config(config)
        if model.main_input_name == "input_ids":
            batch = {"input_ids": torch.zeros(1, sequence_length, dtype=torch.long)}
            if config.is_encoder_decoder:
                batch["decoder_input_ids"] = batch["input_ids"]
            return Target(model, kwargs=batch, unit="token", num_units=sequence_length)
        size = getattr(config, "image_size", None)
        if model.main_input_name == "pixel_values" and isinstance(size, int):
            return Target(
                model, kwargs={"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), size, size)}
            )
    return Target(model)
