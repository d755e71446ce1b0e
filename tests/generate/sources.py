"""The published files that the shipped figures are read from, each pinned to a commit and a checksum.

A file is taken from a cache folder, and downloaded into it where it is absent. Nothing of it is stored here.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CACHE = Path.home() / ".cache" / "intensive_callbacks" / "published"


@dataclass(frozen=True)
class Source:
    title: str
    repo: str
    commit: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        """The page where a reader sees it."""
        return f"https://github.com/{self.repo}/blob/{self.commit}/{self.path}"

    @property
    def cited(self) -> str:
        return f"{self.title} (github.com/{self.repo}, {self.commit[:7]})"

    def file(self, folder: Path = CACHE) -> Path:
        """The file in the cache, downloaded if need be.

        Raises:
            ValueError: if it is not the file that was read when the tables were made.
        """
        place = folder / self.repo.replace("/", "+") / self.commit / self.path
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            raw = f"https://raw.githubusercontent.com/{self.repo}/{self.commit}/{self.path}"
            with urllib.request.urlopen(raw, timeout=60) as answer:
                place.write_bytes(answer.read())
        found = hashlib.sha256(place.read_bytes()).hexdigest()
        if found != self.sha256:
            raise ValueError(f"{place} has the checksum {found}, expected {self.sha256}: delete it and run again")
        return place

    def text(self, folder: Path = CACHE) -> str:
        return _text(self.file(folder))


@cache
def _text(path: Path) -> str:
    if path.suffix != ".pdf":
        return path.read_text(encoding="utf-8")
    import pypdf  # pip install pypdf: for reports that are published as PDF alone

    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)


SOURCES = {
    name: Source(**entry)
    for name, entry in json.loads(Path(__file__).with_name("sources.json").read_text(encoding="utf-8")).items()
}
