import re
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "examples/compression_study.py"


@pytest.mark.slow
def test_study_measures_six_variants_and_their_caveats(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(STUDY.parents[1]))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    output = subprocess.run([sys.executable, "-W", "error", STUDY], capture_output=True, text=True, check=True).stdout
    cells = {line.split("  ")[0]: line.split() for line in output.splitlines() if "% ±" in line}
    assert set(cells) == {"fp32", "bf16", "int8", "pruned 90 %", "distilled", "1-bit"}
    on_disk = {path.stem: path.stat().st_size for path in tmp_path.glob("*.safetensors")}
    # 84,490 numbers of 4 bytes; half of it in bf16; a quarter, and some scales, in int8; 1 bit for the 256 x 256
    assert on_disk["fp32"] == pytest.approx(4 * 84_490, rel=0.01)
    assert on_disk["bf16"] == pytest.approx(2 * 84_490, rel=0.01)
    assert on_disk["int8"] == pytest.approx(84_480 + 4 * 2 * 522, rel=0.02)
    assert on_disk["1-bit"] == pytest.approx(256 * 256 / 8 + 74 * 256 + 4 * 2 * 522, rel=0.05)
    accuracies = {name: float(re.search(r"([\d.]+)% ±", " ".join(row))[1]) for name, row in cells.items()}
    assert min(accuracies.values()) > 90
    assert accuracies["bf16"] == pytest.approx(accuracies["fp32"], abs=0.5)
    assert [line.split(":")[0] for line in output.splitlines() if line.startswith("- ")] == [
        "- Latency",
        "- Bandwidth",
        "- Errors are not alike",
        "- A snapshot",
    ]
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "</script>" in (tmp_path / "frontier.html").read_text(encoding="utf-8")
