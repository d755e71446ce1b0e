import pytest

from generated import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", FILES)
def test_the_file_is_what_the_code_generates(path):
    assert (ROOT / path).read_text() == FILES[path], "run `make generate`"


def test_the_quickstart_fits_on_a_screen_or_two():
    assert len((ROOT / "examples/00_quickstart.py").read_text().splitlines()) <= 80
