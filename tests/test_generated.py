import pytest

from generated import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", FILES)
def test_the_generated_file_is_current(path):
    assert (ROOT / path).read_text() == FILES[path], "run `make generate`"


def test_the_quickstart_has_at_most_80_lines():
    assert len((ROOT / "examples/00_quickstart.py").read_text().splitlines()) <= 80
