"""Sharded models have the parameters of the whole, and what several processes share is counted once."""

import math

import pytest
from torch import nn

from distributed import sharded, workers
from intensive_callbacks import count_parameters

# A gate of 36, experts of 72, a head of 36; a token uses two of the four experts.
TOTAL, ACTIVE = 36 + 4 * 72 + 36, 36 + 2 * 72 + 36


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return workers.spawn(2, tmp_path_factory.mktemp("two"), sharded.parameters)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return workers.spawn(4, tmp_path_factory.mktemp("four"), sharded.shares)


@pytest.mark.parametrize(
    "way", ["fsdp1 after the monitor", "fsdp2", "ddp, the wrapper watched", "two paths", "tensor parallel"]
)
def test_parameters_of_the_whole_model(two, way):
    for found, *_ in two:
        assert found[way] == pytest.approx([ACTIVE, TOTAL], rel=1e-6)


def test_parameters_that_fsdp1_hides_are_absent(two):
    for found, *_ in two:
        assert all(math.isnan(value) for value in found["fsdp1 before the monitor"])


def test_a_module_that_fsdp1_wraps_from_outside_is_not_counted(two):
    for *_, refused in two:
        assert refused.startswith("FSDP1 shows only this rank's shard")


def test_experts_of_other_processes_count(two):
    whole = count_parameters(sharded.model())
    assert (whole.total, whole.active, whole.num_bytes, whole.num_local_bytes) == (TOTAL, ACTIVE, 4 * TOTAL, 4 * TOTAL)
    stacked = count_parameters(nn.Sequential(sharded.Stacked(), nn.Linear(8, 4)))
    for _, counts, _ in two:
        assert counts["spread"] == [TOTAL, ACTIVE, 4 * TOTAL, 4 * (TOTAL - 2 * 72)]
        assert counts["dtensor"] == [stacked.total, stacked.active, 4 * stacked.total, 4 * (stacked.total - 2 * 64)]


def test_processes_that_share_a_batch_are_known_by_the_mesh(four):
    for rank, found in enumerate(four):
        assert found["dp", "tp"] == (rank % 2, 2, rank % 2 > 0)
        assert found["dp", "cp"] == (rank % 2, 2, False)
        assert found["pp", "dp"] == (rank // 2, 2, False)
        assert found["dp_replicate", "dp_shard"] == (0, 1, False)
        assert found["unnamed"] == 1


def test_tokens_and_answers_of_a_shared_batch_count_once(four):
    for found in four:
        assert found["counts"] == (2 * 10 * 4 * 8, 2 * 10 * 4, 0.5, 200)


def test_the_measured_baseline_is_that_of_all_examples(tmp_path):
    for values in workers.spawn(3, tmp_path, sharded.baseline):
        assert values["intensive/relevance_rate"] == pytest.approx(0.5 / ((0.2 * 30 + 0.4 * 10) / 40))


def test_subgroups_log_apart(tmp_path):
    rows = workers.spawn(4, tmp_path, sharded.subgroup)
    for row, accuracy, length in zip(rows, (0.125, 0.125, 0.625, 0.625), (2, 2, 3, 3), strict=True):
        assert row == pytest.approx([accuracy] * length)
