"""Files and texts of strangers: what is read, what is refused, and what reaches a terminal."""

import csv
import io
import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from intensive_callbacks import BenchmarkTable, untrusted
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.boundary import warn
from intensive_callbacks.untrusted import parse_json, printable, read_bytes, read_json, reason, short_name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "private.json").write_text('"secret"', encoding="utf-8")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "path", ["../private.json", "{absolute}", "link.json", "linked/private.json", "a/../../private.json"]
)
def test_nothing_outside_the_folder_is_read(folder, path):
    (folder / "a").mkdir()
    (folder / "link.json").symlink_to(folder.parent / "private.json")
    (folder / "linked").symlink_to(folder.parent)
    with pytest.raises(ValueError, match="lies outside"):
        read_json(folder / path.format(absolute=folder.parent / "private.json"), within=folder)


def test_link_inside_the_folder_is_read(folder):
    (folder / "table.json").write_text("[1]", encoding="utf-8")
    (folder / "link.json").symlink_to("table.json")
    assert read_json(folder / "link.json", within=folder) == [1]


def test_pipe_device_and_folder_are_refused_at_once(folder):
    os.mkfifo(folder / "pipe")
    for path in (folder / "pipe", "/dev/zero", folder):
        with pytest.raises(ValueError, match="not a regular file"):
            read_bytes(path)
    with pytest.raises(FileNotFoundError):
        read_bytes(folder / "missing")


def test_large_file_is_refused(folder, monkeypatch):
    monkeypatch.setattr(untrusted, "MAX_BYTES", 100)
    (folder / "a").write_bytes(b"x" * 100)
    (folder / "b").write_bytes(b"x" * 101)
    assert len(read_bytes(folder / "a")) == 100
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read_bytes(folder / "b")


@pytest.mark.parametrize("text", ["{", b"\xff\xfe\x00", "[" * 100_000, "[" * 60 + "]" * 60, "1" * 5000, ""])
def test_json_that_cannot_be_used_is_a_value_error(text):
    with pytest.raises(ValueError, match="place is not JSON"):
        parse_json(text, "place")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_of_usual_depth_is_read_as_json_reads_it(content):
    assert parse_json(json.dumps(content), "place") == content


@given(st.text(st.characters(), max_size=50))
def test_no_control_character_is_printed(text):
    shown = printable(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert not any(
        unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        for char in shown
    )
    assert [char for char in shown if char.isalnum()] == [char for char in text if char.isalnum()]


def test_names_and_reasons_are_short_and_on_one_line():
    assert len(short_name("a" * 1000)) == 200
    assert printable("a" * 200, 200) == "a" * 200
    assert reason(KeyError("no\x1b[31m\nsuch")) == "no [31m such"
    assert reason(ValueError()) == "ValueError"


HOSTILE = "a\x1b]0;title\x07\x9b31m\u202eb\u2066c\ufeff\n=1+1"
HIDDEN = set(HOSTILE) - set("a]0;titlebc31m=1+")


def test_no_control_character_reaches_a_warning():
    with pytest.warns(RuntimeWarning) as caught:
        warn(f"the layer {HOSTILE} failed")
    assert not HIDDEN & set(str(caught[0].message))


def test_no_control_character_reaches_terminal_markdown_or_csv():
    row = BenchmarkRow(
        model=HOSTILE, task=HOSTILE, protocol=HOSTILE, source=HOSTILE, accuracy=0.5, measured={f"m/{HOSTILE}": 1.0}
    )
    table = BenchmarkTable([row])
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(table)
    cells = [cell for line in csv.reader(io.StringIO(table.to_csv())) for cell in line]
    for shown in (console.file.getvalue(), table.to_markdown(), *(cell.replace("\n", "") for cell in cells)):
        assert not (HIDDEN - {"\n"}) & set(shown)


@pytest.mark.parametrize("hidden", ["", "\ufeff", " \ufeff ", "\u200b", "\u2060", "\u202e"])
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_of_a_csv_is_a_formula(hidden, sign):
    row = BenchmarkRow(model=f"{hidden}{sign}1+1", task="t", protocol="p", source="s", accuracy=0.5)
    cells = [cell for line in csv.reader(io.StringIO(BenchmarkTable([row]).to_csv())) for cell in line]
    cell = next(cell for cell in cells if cell.endswith(f"{sign}1+1"))
    assert cell.startswith("'")
