"""Rebuild the shipped tables of published models from their sources and show what changes.

    python tests/generate/published.py [--write] [--cache FOLDER] [TABLE ...]

Sources that the cache lacks are downloaded. Without ``--write`` nothing is written, and the exit status is 1 where a
table differs from the shipped one.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import sys
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generate import density, language, vision, vision_language
from generate.sources import CACHE

SHIPPED = Path(__file__).resolve().parents[2] / "intensive_callbacks" / "benchmark" / "baselines"
TABLES = {
    "language": language.rows,
    "vision": vision.rows,
    "vision-language": vision_language.rows,
    "density": density.rows,
}
# What load_baselines reads, then what traces it.
COLUMNS = [
    "model",
    "task",
    "protocol",
    "accuracy",
    "total_params",
    "active_params",
    "num_bytes",
    "num_flops",
    "per",
    "num_examples",
    "num_tokens",
    "random_baseline",
    "featured",
    "source",
    "url",
    "printed",
]


def text_of_table(name: str, cache: Path) -> str:
    """The CSV file of one table."""
    rows = [_derived(row) for row in TABLES[name](cache)]
    columns = [*COLUMNS, *sorted({column for row in rows for column in row} - {*COLUMNS})]
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _derived(row: dict[str, object]) -> dict[str, object]:
    """A row with what follows from its figures: the fraction from percent, bytes from gigabytes or from parameters."""
    row = {name: value for name, value in row.items() if value is not None}
    row["accuracy"] = _plain(Decimal(str(row["printed"])) / 100)
    if "printed_gb" in row:
        row["num_bytes"] = _plain(Decimal(str(row["printed_gb"])) * 10**9)
    elif "bytes_per_param" in row and "num_bytes" not in row:
        row["num_bytes"] = _plain(Decimal(str(row["total_params"])) * Decimal(str(row["bytes_per_param"])))
    return row


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--write", action="store_true", help="replace the shipped tables")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the sources are kept")
    options = parser.parse_args()
    changed = False
    for name in options.tables or TABLES:
        path = SHIPPED / f"{name}.csv"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = text_of_table(name, options.cache)
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name}.csv", "rebuilt", "", "", 0, "")
        difference = "\n".join(lines)
        sys.stdout.write(f"{difference or f'{name}: no difference'}\n")
        changed |= bool(difference)
        if options.write and difference:
            path.write_text(after, encoding="utf-8")
    return int(changed and not options.write)


if __name__ == "__main__":
    sys.exit(main())
