from importlib import import_module
from pathlib import Path

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
CASES = [case for module in MODULES for case in import_module(f"contract.cases.{module}").CASES]
