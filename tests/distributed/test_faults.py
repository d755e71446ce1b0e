"""One thing wrong on one of 1, 2 and 4 processes: nobody waits, training is the same, and what is logged is right."""

import pytest

from distributed import faults, workers

# The accuracy that the last values show on the others, and whether all switch off together.
RIGHT, ABSENT = 0.5, 0.0
EXPECTED = {
    "none": RIGHT,
    "energy cannot be read": RIGHT,
    "closing the window": RIGHT,
    "counting the batches": RIGHT,
    "what follows the reduction": RIGHT,
    "ragged samples": RIGHT,
    "a state of another shape": RIGHT,
    "no accuracy": RIGHT,
    "a refused accuracy": float("nan"),
    "no validation": RIGHT,
    "another step": ABSENT,
    "fewer batches": ABSENT,
    "no log": ABSENT,
}
TOGETHER = ("another step", "fewer batches", "no log")


@pytest.fixture(scope="module", params=[1, 2, 4])
def table(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"faults-{request.param}")
    return workers.spawn(request.param, folder, faults.table, list(EXPECTED), seconds=6)


@pytest.mark.parametrize("fault", EXPECTED)
def test_training_is_that_without_a_monitor(table, fault):
    assert [each[fault][0] for each in table] == [True] * len(table)


@pytest.mark.parametrize("fault", EXPECTED)
def test_what_the_other_processes_log(table, fault):
    for row in table[:-1]:
        assert row[fault][1] == pytest.approx(EXPECTED[fault], rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("fault", TOGETHER)
def test_all_switch_off_with_one_message_each(table, fault):
    if len(table) > 1:
        for row in table:
            _, _, said, hooks = row[fault]
            assert hooks == 0
            assert len(said) == 1, said


def test_no_warning_without_a_fault(table):
    assert all(row["none"][2] == [] for row in table)


@pytest.mark.parametrize("fault", ["counting the batches", "a refused accuracy", "closing the window"])
def test_what_failed_elsewhere_is_said_here(table, fault):
    for row in table[:-1]:
        assert any("process" in each for each in row[fault][2])


def test_a_part_that_differs_is_said_again_at_the_end(table):
    for row in table if len(table) > 1 else ():
        for fault in ("ragged samples", "a state of another shape"):
            assert "differs between them: the tap on '0' into Kept" in row[fault][2][-1]
