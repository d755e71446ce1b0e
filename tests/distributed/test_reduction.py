"""One fused reduction: the same values on any number of processes, and no process waits for ever."""

import pytest

from distributed import workers


def test_sums_samples_and_failures(tmp_path):
    for values, failed in workers.spawn(3, tmp_path, workers.reduce_something):
        assert values["a/load"] == [1 + 2 + 3, 3 * 2**40]
        assert values["b/entropy"] == pytest.approx(0.3)
        assert values["c/rows"] == [[0, 1], [0, 1], [2, 3]]  # none of process 0, one of 1, two of 2
        assert failed == {"b"}


def test_what_differs_between_processes_is_left_out(tmp_path):
    for values, failed in workers.spawn(2, tmp_path, workers.reduce_different_things):
        assert values == {"same/load": [1 + 2], "same/rows": [[0.0], [1.0]]}
        assert failed == {"shape", "width", "absent", "stateless"}


def test_three_collectives_for_25_metrics_of_60_layers(tmp_path):
    assert workers.spawn(2, tmp_path, workers.reduce_much) == [3, 3]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return workers.spawn(1, tmp_path_factory.mktemp("alone"), workers.watch, False)[0][0]


@pytest.mark.parametrize(("world_size", "without_data"), [(2, False), (2, True), (4, False), (4, True)])
def test_values_are_those_of_one_process(tmp_path, alone, world_size, without_data):
    for rows, num_collectives in workers.spawn(world_size, tmp_path, workers.watch, without_data):
        for row, expected in zip(rows, alone, strict=True):
            assert row.keys() == expected.keys()
            assert row == pytest.approx(expected, rel=1e-9, nan_ok=True)
        assert num_collectives == 2 * 2  # two logging steps, with nothing sampled


def test_a_fault_on_one_process_is_a_warning_on_all(tmp_path):
    results = workers.spawn(2, tmp_path, workers.watch_with_a_fault)
    for rank, (values, warned) in enumerate(results):
        assert "intensive/config_entropy" not in values
        assert values["intensive/p3_score"] > 0
        (message,) = warned
        assert ("only here" if rank == 1 else "another process") in message


WRAPPED = {
    "ddp": {},
    "ddp without broadcast_buffers": {"broadcast_buffers": False},
    "ddp with find_unused_parameters": {"find_unused_parameters": True},
    "fsdp2": "fsdp2",
}


@pytest.mark.parametrize("num_accumulated", [1, 3])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_wrapped_model_gives_the_values_of_the_bare_one(tmp_path, wrap, num_accumulated):
    expected = workers.watch_wrapped(0, 1, {}, 1)
    for values in workers.spawn(2, tmp_path, workers.watch_wrapped, WRAPPED[wrap], num_accumulated):
        assert values.keys() == expected.keys()
        assert values == pytest.approx(expected, rel=1e-9)


def test_a_part_that_a_process_may_lack_comes_from_the_others(tmp_path):
    for values, failed in workers.spawn(3, tmp_path, workers.reduce_what_one_has):
        assert values == {"same/load": [3.0], "maybe/load": [7.0, 0.0], "maybe/rows": [[2.0, 3.0]]}
        assert failed == {"certain"}


def test_samples_of_very_unequal_sizes(tmp_path):
    for length, total in workers.spawn(2, tmp_path, workers.reduce_unequal_samples):
        assert (length, total) == (1 + 200_000, 1.0)


def test_processes_at_different_steps_all_hear_of_it(tmp_path):
    for said in workers.spawn(3, tmp_path, workers.reduce_at_different_steps):
        assert "step 10 and 17" in said
