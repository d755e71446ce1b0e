"""Look up every printed figure of the shipped tables in its source again, without the code that made the tables.

    python tests/generate/second_reader.py [--cache FOLDER]

For each row that cites a file of a repository: the score, and what else is printed, must stand in one line of that file
(or one row of an HTML table) with the name of the task or of the model. Sources must be in the cache already.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path

BASELINES = Path(__file__).resolve().parents[2] / "intensive_callbacks" / "benchmark" / "baselines"
CACHE = Path.home() / ".cache" / "intensive_callbacks" / "published"
# How the sources write the tasks that their tables have one row for.
TASKS = {
    "MMLU": r"MMLU",
    "MMLU-Pro": r"MMLU[- ][Pp]ro",
    "GPQA-Diamond": r"GPQA[- ]?(?:\*|D\b|[Dd]iamond)",
    "GPQA": r"GPQA",
}


def words(text: str) -> str:
    """A name without what sources write differently: case, dots, blanks, marks of a chat model."""
    return re.sub(r"[^a-z0-9]", "", text.lower().replace("instruct", ""))


def units(path: Path) -> list[str]:
    """The lines of a file, and the rows of its HTML tables."""
    if path.suffix == ".pdf":
        import pypdf

        return [line for page in pypdf.PdfReader(path).pages for line in page.extract_text().splitlines()]
    text = path.read_text(encoding="utf-8")
    return [*text.splitlines(), *(row.replace("\n", " ") for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL))]


def printed(cells: dict[str, str]) -> list[str]:
    """What the source itself prints of a row."""
    names = ("printed", "printed_gb", "printed_density", "printed_params")
    return [cells[name] for name in names if cells.get(name)]


def stands_in(unit: str, figures: list[str]) -> bool:
    return all(re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d]|\.\d)", unit) for figure in figures)


def found(cells: dict[str, str], lines: list[str]) -> bool:
    """Whether some line has all the printed figures and says whose, or what, they are."""
    if "/ObsScaling/" in cells["url"]:  # which prints all digits of the fraction
        line = next((line for line in lines if line.startswith(f"{cells['model']},")), ",,,,,nan")
        return f"{float(line.split(',')[5]):.4f}" == f"{float(cells['accuracy']):.4f}"
    if "/swallow-llm/" in cells["url"]:  # which prints fractions, a block of lines for each model
        return in_block(cells, "\n".join(lines))
    task, names = TASKS.get(cells["task"], r"(?!)"), names_of(cells["model"])
    return any(
        stands_in(line, printed(cells)) and (re.search(task, line) or all(name in words(line) for name in names))
        for line in lines
    )


def in_block(cells: dict[str, str], text: str) -> bool:
    """Whether a model of this name, or one that was trained from it, has this fraction in English."""
    label = cells["task"].replace("-Diamond", "")
    part = "en_pre" if label == "MMLU" else "en_post"
    with Path(__file__).with_name("swallow.csv").open(encoding="utf-8", newline="") as file:
        names = {row["id"] for row in csv.DictReader(file) if row["model"] == cells["model"]}
    for block in text.split("\n- id: "):
        score = re.search(rf"\n    {part}:\n(?:      .*\n)*?      {label}: (\S+)\n", f"{block}\n")
        if block.partition("\n")[0] in names and score and float(score[1]) == float(cells["accuracy"]):
            return True
    return False


def names_of(model: str) -> list[str]:
    """The parts of a name, which tables may put into two cells."""
    model = re.sub(r" \(\d+ px\)$", "", model).replace("LLaVA-1.5", "LLaVA-v1.5")
    family = re.fullmatch(r"(LLaMA|Llama-2|Chinchilla|Gopher|GPT-3)[- ](\d+B)", model)
    parts = family.groups() if family else (model,)
    return [words(part.replace("LLaMA", "Llama 1")) for part in parts]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    cache = parser.parse_args().cache
    wrong = looked_up = by_hand = 0
    read: dict[str, list[str]] = {}
    for table in sorted(BASELINES.glob("*.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            for cells in csv.DictReader(file):
                parts = cells["url"].removeprefix("https://github.com/").split("/", 4)
                if cells["url"].startswith("https://arxiv.org/"):
                    by_hand += 1
                    continue
                place = cache / f"{parts[0]}+{parts[1]}" / parts[3] / parts[4]
                if cells["url"] not in read:
                    read[cells["url"]] = units(place)
                looked_up += 1
                if not found(cells, read[cells["url"]]):
                    wrong += 1
                    sys.stdout.write(f"not found: {table.stem}, {cells['model']}, {cells['task']}: {printed(cells)}\n")
    sys.stdout.write(f"{looked_up} rows looked up, {wrong} wrong; {by_hand} were read by hand (arXiv)\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
