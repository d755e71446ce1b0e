"""Build a model and a batch for it from a name, without weights and network access."""

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

from intensive_callbacks.boundary import Boundary, warn
from intensive_callbacks.routing.discovery import discover
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
        config: the transformers config that the model was built from, if it was.
    """

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    unit: str = "example"
    num_units: int = 1
    config: Any = None

    @property
    def has_batch(self) -> bool:
        """Whether there is something to run."""
        return bool(self.args or self.kwargs)

    def experts_per_token(self) -> dict[str, float]:
        """Experts that a token is sent to in the layers that do not say it, measured on a small model of the config."""
        unknown = [layer for layer in discover(self.model) if layer.num_experts_per_token is None]
        if not unknown or self.config is None:
            return {}
        measured = measured_experts_per_token(self.config)
        if measured is None:
            return {}
        warn(
            f"the config does not say how many experts a token is sent to; a small random model of it sends each to "
            f"{measured:.4g}, which is assumed here. Give another number with --num-experts-per-token",
            UserWarning,
        )
        return {layer.name: min(measured, layer.num_classes) for layer in unknown}


def resolve(name: str, sequence_length: int = 2048) -> Target:
    """Build the model that a name refers to; nothing is downloaded.

    Args:
        name: ``"module:factory"``, where the factory returns a model, or a model and its batch (a tensor, a tuple of
            inputs or a dict of them); or a transformers config file, or a folder that holds one; or the name of a
            transformers config class, for the model of its default values.
        sequence_length: tokens in the batch of a language model.

    Raises:
        ValueError: if there is no such model; the message says what was tried.

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
    """Unit and size of a batch: tokens where it has token ids, else examples."""
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
    with torch.device("meta"):
        model = _build(config)
        if model.main_input_name == "input_ids":
            batch = _tokens(config, torch.zeros(1, sequence_length, dtype=torch.long))
            return Target(model, kwargs=batch, unit="token", num_units=sequence_length, config=config)
        size = getattr(config, "image_size", None)
        if model.main_input_name == "pixel_values" and isinstance(size, int):
            pixels = torch.zeros(1, getattr(config, "num_channels", 3), size, size, dtype=model.dtype)
            return Target(model, kwargs={"pixel_values": pixels}, config=config)
    return Target(model, config=config)


def _build(config: Any) -> Any:
    """The model of a config, of the type that the config says."""
    import transformers

    inner = config.get_text_config() if hasattr(config, "get_text_config") else config
    dtype = getattr(config, "dtype", None) or getattr(inner, "dtype", None) or torch.float32
    named = [getattr(transformers, name, None) for name in getattr(config, "architectures", None) or ()]
    if named and named[0] is not None:
        return named[0]._from_config(config, dtype=dtype)  # noqa: SLF001 - a class takes no dtype in public
    causal = transformers.AutoModelForCausalLM
    known = type(config) in causal._model_mapping  # noqa: SLF001 - asks without trying
    return (causal if known else transformers.AutoModel).from_config(config, dtype=dtype)


def _tokens(config: Any, ids: Tensor) -> dict[str, Any]:
    return {"input_ids": ids, "decoder_input_ids": ids} if config.is_encoder_decoder else {"input_ids": ids}


def measured_experts_per_token(config: Any) -> float | None:
    """Experts that a token is sent to, from one forward pass of a small random model of this config.

    Widths and depth are small; what the config says about experts stays. ``None`` where that model has no router that
    can be observed, or cannot be made small.
    """
    from intensive_callbacks.routing.observer import RouterObserver

    boundary = Boundary()
    small = boundary.call("building a small model to watch its routers", _small, config)
    if small is None:
        return None
    ids = 3 + torch.randperm(SMALL["vocab_size"] - 3)[:NUM_WATCHED].view(2, -1)
    with torch.no_grad(), RouterObserver(small) as observer:
        boundary.call("running a small model to watch its routers", small, **_tokens(small.config, ids))
    states = [statistics.states() for statistics in observer.statistics.values()]
    used = [(float(s["load"].sum()), float(s["num_tokens"]), int((s["load"] > 0).sum())) for s in states]
    num_tokens = sum(tokens for _, tokens, _ in used)
    # An expert may compute the rows of a token many times, as those of NLLB do; a token uses no more than computed.
    selected = sum(min(load, tokens * number) for load, tokens, number in used)
    return selected / num_tokens if num_tokens and selected else None


SMALL = {
    "vocab_size": 512,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "intermediate_size", "d_ff", "moe_intermediate_size"), 32),
    **dict.fromkeys(("ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "num_decoder_layers", "n_layers"), 4),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads", "num_key_value_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv"), 8),
    **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), 0),
    **dict.fromkeys(("bos_token_id", "eos_token_id"), 1),
}
NUM_WATCHED = 64


def _small(config: Any) -> Any:
    default = config.to_dict()
    kept = {name: value for name, value in default.items() if name not in ("dtype", "torch_dtype", "architectures")}
    smaller = {name: value for name, value in SMALL.items() if isinstance(default.get(name), int)}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return _build(type(config).from_dict({**kept, **smaller})).eval()
