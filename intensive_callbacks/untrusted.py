"""What somebody else wrote, read and shown without obeying it: files of bounded size, and text that drives nothing.

Every reader of a file that may come from a stranger reads through :func:`read_bytes` or :func:`read_json`, and whatever
stands in it passes :func:`printable` before it reaches a terminal, a CSV, Markdown, a page or a warning.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

MAX_BYTES = 64_000_000
MAX_NAME = 200
MAX_DEPTH = 50
_SENTENCE = 2000
# C0, C1, line separators, marks that reverse or hide what follows, and halves of surrogate pairs, which no file takes.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]+"
)


def printable(text: Any, limit: int = _SENTENCE) -> str:
    r"""``text`` on one line, without control characters and no longer than ``limit``.

    Example:
        >>> printable("a\x1b[31m\u202eb\n")
        'a [31m b '
    """
    line = _CONTROL.sub(" ", str(text))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def short_name(text: Any) -> str:
    """A name as it is shown: :func:`printable`, and at most 200 characters."""
    return printable(text, MAX_NAME).strip()


def reason(error: BaseException) -> str:
    """What an exception says, on one line; its type where it says nothing."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(printable(text).split()) or type(error).__name__


def read_bytes(file: str | Path, *, within: Path | None = None) -> bytes:
    """The content of a regular file of at most 64 MB; pipes and devices are refused, not waited for.

    Args:
        file: which file.
        within: a folder that the file must lie in, wherever links lead.

    Raises:
        OSError: if there is no such file or it may not be read.
        ValueError: if it is no regular file, lies outside of the folder or is too large; the message names it.
    """
    path = Path(os.path.realpath(file))
    if within is not None and not path.is_relative_to(os.path.realpath(within)):
        raise ValueError(f"{file} lies outside of {within} and is not read")
    if path.exists() and not path.is_file():
        raise ValueError(f"{file} is not a regular file")
    # Without waiting: what is a file now may be a pipe by the time it is opened.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{file} is not a regular file")
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{file} has more than {MAX_BYTES:,} bytes")
    return content


def read_json(file: str | Path, *, within: Path | None = None) -> Any:
    """The content of a JSON file, which :func:`read_bytes` reads.

    Raises:
        OSError: if there is no such file or it may not be read.
        ValueError: if it may not be read by :func:`read_bytes`, or is not JSON; the message names the file.
    """
    return parse_json(read_bytes(file, within=within), str(file))


def parse_json(text: str | bytes, place: str) -> Any:
    """``text`` as JSON that is nested no deeper than 50 levels.

    Raises:
        ValueError: if it is not such JSON; the message names ``place``.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from error
    level = [content]
    for _ in range(MAX_DEPTH):
        nested = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [value for values in nested for value in values]
        if not level:
            return content
    raise ValueError(f"{place} is not JSON that can be used: it is nested deeper than {MAX_DEPTH} levels")
