"""The arrows of the house, and that one metric loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import intensive_callbacks

PACKAGE = Path(intensive_callbacks.__file__).parent
# What a part may import of the others.
ALLOWED = {
    "cards": set(),
    "keys": {"cards"},
    "boundary": set(),
    "functional": set(),
    "metrics": {"functional"},
    "losses": {"functional"},
    "batches": set(),
    "distributed": set(),
    "history": set(),
    "routing": {"functional", "metrics"},
    "footprint": {"routing", "functional"},
    "taps": {"metrics", "routing"},
    "gradients": set(),
    "knowledge": {"footprint", "gathered", "routing", "values"},
    "selection": {"cards", "metrics"},
    "gathered": {"distributed", "functional"},
    "gatherer": {"batches", "footprint", "gathered", "routing", "taps"},
    "values": {"functional", "gathered", "cards", "selection"},
    "valuation": {"gathered", "gatherer", "knowledge", "selection", "values"},
    "dashboards": {"cards"},
    "sinks": {"dashboards", "cards"},
    "benchmark": {"cards", "functional", "metrics", "footprint", "dashboards", "sinks"},
    "monitor": {
        "batches",
        "benchmark",
        "footprint",
        "functional",
        "gathered",
        "gatherer",
        "history",
        "cards",
        "knowledge",
        "metrics",
        "routing",
        "selection",
        "taps",
        "valuation",
        "values",
    },
    "callback": {"batches", "functional", "gradients", "history", "monitor", "selection", "sinks", "taps"},
    "cli": {"benchmark", "dashboards", "footprint", "cards", "routing"},
}
ONLY = {  # a heavy library, and the one place that imports it
    "wandb": {"sinks/wandb.py", "dashboards/publish.py"},
    "fvcore": {"footprint/flops.py"},
    "pytorch_lightning": {"callback.py"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def test_every_part_imports_only_what_its_arrows_allow():
    for path in MODULES:
        for name in imports(path):
            if name.startswith("intensive_callbacks."):
                imported = name.split(".")[1]
                assert imported == part(path) or imported in ALLOWED[part(path)], f"{path}: {name}"


def test_each_heavy_library_is_imported_in_one_place():
    for library, places in ONLY.items():
        found = {str(p.relative_to(PACKAGE)) for p in MODULES if any(n.split(".")[0] == library for n in imports(p))}
        assert found == places


def test_one_metric_loads_nothing_heavy():
    code = (
        "import sys, torchmetrics; before = set(sys.modules);"
        "from intensive_callbacks import ConfigurationEntropyScore;"
        "print({'pytorch_lightning', 'lightning', 'wandb', 'fvcore', 'vl_convert'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_everything_public_can_be_imported_and_nothing_else_is_listed():
    for name in intensive_callbacks.__all__:
        assert getattr(intensive_callbacks, name) is not None
    assert intensive_callbacks.__all__ == sorted(set(intensive_callbacks.__all__))
    assert set(intensive_callbacks.__all__) == set(dir(intensive_callbacks))
