"""Read figures from tables in Markdown, HTML, or the text of a PDF."""

from __future__ import annotations

import html
import re

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def lines_of(text: str) -> list[str]:
    """The lines of a page; each row of an HTML table becomes one line of a Markdown table."""
    text = re.sub(r"<tr[^>]*>(.*?)</tr>", lambda row: f"\n{_cells_of_html(row[1])}\n", text, flags=re.DOTALL)
    return [_plain(line) for line in text.splitlines()]


def figures(text: str, after: str, label: str, count: int) -> list[str | None]:
    """The last ``count`` figures of the first row with this label below a line that contains ``after``.

    ``None`` stands for a cell without a figure, and for one with an asterisk, which marks what others measured.

    Raises:
        ValueError: if there is no such row, or it has fewer cells.
    """
    lines = lines_of(text)
    start = next((place for place, line in enumerate(lines) if after in line), None)
    if start is None:
        raise ValueError(f"no line contains {after!r}")
    for line in lines[start:]:
        cells = cells_of(line, label)
        if cells is not None:
            if len(cells) < count:
                raise ValueError(f"expected {count} figures after {label!r}, got {cells}")
            return [_figure(cell) for cell in cells[-count:]]
    raise ValueError(f"no row {label!r} below {after!r}")


def cells_of(line: str, label: str) -> list[str] | None:
    """The cells to the right of the one with this label; ``None`` if the line has no such cell."""
    if "|" in line:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        return cells[cells.index(label) + 1 :] if label in cells else None
    return line.removeprefix(f"{label} ").split() if line.startswith(f"{label} ") else None


def _cells_of_html(row: str) -> str:
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)
    return "|" + "|".join(re.sub(r"\s+", " ", cell).strip() for cell in cells) + "|"


def _plain(line: str) -> str:
    line = html.unescape(re.sub(r"<[^>]+>", "", line)).replace("\\_", "_").replace("\\#", "#").replace("\\*", "¤")
    return re.sub(r"\*\*\*?|(?<=\d)¤", lambda mark: "*" if mark[0] == "¤" else "", line)


def _figure(cell: str) -> str | None:
    found = NUMBER.search(cell)
    return found[0] if found and "*" not in cell else None
