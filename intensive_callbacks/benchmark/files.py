"""Reading JSON that somebody else may have written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 50_000_000


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: if it is too large or not JSON; the message names the file.
    """
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes; expected at most {MAX_BYTES:,}")
    return parse_json(file.read_bytes(), str(file))


def parse_json(text: str | bytes, place: str) -> Any:
    """``text`` as JSON.

    Raises:
        ValueError: if it is not JSON; the message names ``place``.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from error
