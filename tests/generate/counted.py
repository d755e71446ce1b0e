"""Count the parameters of published models from their public configurations.

    python tests/generate/counted.py [--write] [MODEL ...]

The configurations are in ``tests/data/configurations.json``, each with its source. The models are built by the
installed transformers on the meta device, so nothing is downloaded and no memory is taken. Without ``--write`` the
exit status is 1 where a count differs from ``tests/data/counted_models.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "data"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    entry["model"]: entry for entry in json.loads((DATA / "configurations.json").read_text(encoding="utf-8"))
}
COUNTED = DATA / "counted_models.json"
FIGURES = ("total", "active", "active_without_input_embedding", "active_without_embeddings")


def count(entry: dict[str, Any]) -> dict[str, int]:
    """Total and active parameters of one configuration, the latter by each convention in use."""
    import torch
    import transformers

    from intensive_callbacks.footprint.parameters import count_parameters

    config = getattr(transformers, entry["config_class"])(**entry["config_kwargs"])
    with torch.device("meta"):
        model = getattr(transformers, entry["model_class"])(config)
    counted = count_parameters(model)
    figures = {name: getattr(counted, name) for name in FIGURES}
    return figures | ({"num_bytes": mxfp4_bytes(model)} if entry.get("format") == "MXFP4" else {})


def mxfp4_bytes(model: Any) -> int:
    """Bytes of a checkpoint with the matrices of its experts in MXFP4, and all other tensors in BF16.

    In MXFP4 each block of 32 elements of 4 bits has a scale of 8.
    """
    matrices = sum(
        weight.numel() for name, weight in model.named_parameters() if ".experts." in name and not name.endswith("bias")
    )
    others = sum(weight.numel() for weight in model.parameters()) - matrices
    return matrices * 17 // 32 + 2 * others


def counted_models() -> dict[str, dict[str, int]]:
    """The counts that are checked in."""
    return json.loads(COUNTED.read_text(encoding="utf-8")) if COUNTED.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--write", action="store_true", help="replace tests/data/counted_models.json")
    options = parser.parse_args()
    before = counted_models()
    after = {}
    for name in options.models or CONFIGURATIONS:
        after[name] = count(CONFIGURATIONS[name])
        if after[name] != before.get(name):
            sys.stdout.write(f"{name}: {before.get(name)} -> {after[name]}\n")
    if options.write:
        text = ",\n".join(
            f" {json.dumps(name)}: {json.dumps(figures)}" for name, figures in {**before, **after}.items()
        )
        COUNTED.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    changed = any(before.get(name) != figures for name, figures in after.items())
    return int(changed and not options.write)


if __name__ == "__main__":
    sys.exit(main())
