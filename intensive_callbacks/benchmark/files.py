"""Reading JSON that somebody else may have written."""

from intensive_callbacks.untrusted import parse_json, read_json

__all__ = ["MAX_BYTES", "parse_json", "read_json"]

MAX_BYTES = 50_000_000  # of a table of baselines
