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
            assert len([each for each in said if "logging failed and is switched off" in each]) <= 1
        assert any("logging failed and is switched off" in each for each in table[0][fault][2])


def test_no_warning_without_a_fault(table):
    assert all(row["none"][2] == [] for row in table)
