"""Every file that is made from the code: ``make generate`` writes them, a test checks that they are current."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from intensive_callbacks import dashboards, keys

ROOT = Path(__file__).parents[1]


def between(text: str, name: str, content: str) -> str:
    """The text with what stands between ``<!-- name -->`` and ``<!-- /name -->`` replaced."""
    pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has no section {name}")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def readme() -> str:
    """The README with the quickstart and the table of keys as they are."""
    text = (ROOT / "README.md").read_text()
    quickstart = (ROOT / "examples/00_quickstart.py").read_text()
    text = between(text, "quickstart", f"```python\n{quickstart}```")
    return between(text, "keys", keys.markdown_table())


def generated() -> dict[str, str]:
    """The text of every generated file by its path."""
    return {"README.md": readme(), **dashboards.generated()}


if __name__ == "__main__":
    for path, text in generated().items():
        if not (ROOT / path).exists() or (ROOT / path).read_text() != text:
            (ROOT / path).write_text(text)
            sys.stdout.write(f"wrote {path}\n")
