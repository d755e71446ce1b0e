"""Reading JSON that somebody else may have written."""

from intensive_callbacks.untrusted import MAX_BYTES, parse_json, read_json

__all__ = ["MAX_BYTES", "parse_json", "read_json"]
