"""The arrows of the house, who writes into whom, and that one metric loads nothing heavy."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import intensive_callbacks

PACKAGE = Path(intensive_callbacks.__file__).parent
# What a part may import of the others, from the ground up.
ALLOWED = {
    "cards": set(),
    "boundary": {"untrusted"},
    "distributed": set(),
    "untrusted": set(),
    "command": {"untrusted"},
    "functional": {"boundary"},
    "metrics": {"boundary", "functional"},
    "losses": {"functional"},
    "routing": {"boundary", "functional", "metrics"},
    "footprint": {"boundary", "functional", "routing", "untrusted"},
    "dashboards": {"boundary", "cards", "command", "untrusted"},
    "sinks": {"boundary", "cards", "dashboards", "untrusted"},
    "benchmark": {
        "boundary",
        "cards",
        "command",
        "dashboards",
        "footprint",
        "functional",
        "metrics",
        "sinks",
        "untrusted",
    },
    "monitor": {
        "benchmark",
        "boundary",
        "cards",
        "dashboards",
        "distributed",
        "footprint",
        "functional",
        "metrics",
        "routing",
        "sinks",
    },
    "callback": {"boundary", "functional", "monitor", "sinks", "trainer_state"},
    "trainer_callback": {"boundary", "functional", "monitor", "sinks"},
    "trainer_state": {"boundary", "monitor"},
    "cli": {"benchmark", "boundary", "cards", "command", "dashboards", "footprint", "routing", "untrusted"},
    # The former places of what has moved.
    "taps": {"monitor"},
    "gradients": {"monitor"},
}
ONLY = {  # a heavy library, and the places that import it
    "wandb": {"sinks/wandb.py", "dashboards/publish.py", "trainer_callback.py"},
    "mlflow": {"sinks/mlflow.py", "trainer_callback.py"},
    "fvcore": {"footprint/flops.py"},
    "pytorch_lightning": {"callback.py"},
}
# What torch and Lightning themselves set by an attribute.
THEIRS = {"parameter.grad", "trainer.num_sanity_val_steps"}
MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_name(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def test_every_part_imports_only_what_its_arrows_allow():
    for path in MODULES:
        for name in imports(path):
            if name.startswith("intensive_callbacks."):
                imported = name.split(".")[1]
                assert imported == part(path) or imported in ALLOWED[part(path)], f"{path}: {name}"


def test_no_module_imports_another_in_a_circle():
    names = {module_name(path) for path in MODULES}
    arrows = {}
    for path in MODULES:
        if path.name == "__init__.py":  # a package's face only hands names on
            continue
        found = {prefix for name in imports(path) for prefix in (name, name.rpartition(".")[0]) if prefix in names}
        arrows[module_name(path)] = found - {module_name(path)}
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError


def writes(tree):
    """Assignments to an attribute of anything but ``self`` and ``cls``, ``setattr`` among them."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            for each in getattr(target, "elts", [target]):
                own = isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)
                if isinstance(each, ast.Attribute) and not (own and each.value.id in {"self", "cls"}):
                    yield ast.unparse(each)
        sets = isinstance(node, ast.Call) and ast.unparse(node.func) in {"setattr", "object.__setattr__"}
        if sets and ast.unparse(node.args[0]) not in {"self", "cls"}:
            yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_write_into_another_objects_attributes(path):
    assert set(writes(ast.parse(path.read_text()))) <= THEIRS


def test_writes_into_other_objects_are_seen():
    code = "self.a = 1\nother.b = 2\nx, other.c = 1, 2\nother.d += 1\nsetattr(other, 'e', 1)\nother.f: int = 1"
    found = set(writes(ast.parse(code)))
    assert found == {"other.b", "other.c", "other.d", "setattr(other, 'e', 1)", "other.f"}


def test_each_heavy_library_is_imported_in_one_place():
    for library, places in ONLY.items():
        found = {str(p.relative_to(PACKAGE)) for p in MODULES if any(n.split(".")[0] == library for n in imports(p))}
        assert found == places


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "from intensive_callbacks import ConfigurationEntropyScore",
            {"pytorch_lightning", "lightning", "wandb", "fvcore", "vl_convert"},
        ),
        (
            "import intensive_callbacks; from intensive_callbacks import cards, keys",
            {"torch", "pytorch_lightning", "wandb"},
        ),
    ],
)
def test_what_is_imported_loads_nothing_heavy(code, heavy):
    first = "torchmetrics, " if "torch" not in heavy else ""
    script = f"import {first}sys; before = set(sys.modules); {code}; print({heavy} & (set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_is_public_can_be_imported():
    for name in intensive_callbacks.__all__:
        assert getattr(intensive_callbacks, name) is not None
    assert intensive_callbacks.__all__ == sorted(set(intensive_callbacks.__all__))
    assert set(intensive_callbacks.__all__) == set(dir(intensive_callbacks))
