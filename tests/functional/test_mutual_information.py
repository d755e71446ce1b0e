"""Every estimator on channels whose information is known."""

import math

import pytest
import torch
from sklearn.feature_selection import mutual_info_regression

from functional.channels import (
    bits_of_folded,
    bits_of_normals,
    bits_of_student,
    correlation_for,
    folded,
    normals,
    rotated,
    student,
    warped,
)
from intensive_callbacks.functional import (
    gaussian_copula_information,
    gaussian_information,
    ksg_information,
    predictive_information,
    seed_information,
    usable_information,
)

GAUSSIAN = [gaussian_information, gaussian_copula_information]


@pytest.mark.parametrize("estimate", [*GAUSSIAN, ksg_information])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 0.9, -0.9])
def test_correlated_normals(estimate, correlation):
    value = estimate(*normals(4000, 1, correlation))
    assert value == pytest.approx(bits_of_normals(1, correlation), abs=0.06)


@pytest.mark.parametrize("estimate", GAUSSIAN)
@pytest.mark.parametrize(("num_dims", "num_samples"), [(10, 1000), (10, 10_000), (50, 1000), (50, 10_000)])
@pytest.mark.parametrize("dense", [False, True])
def test_normal_vectors(estimate, num_dims, num_samples, dense):
    bits = 2 / math.log(2)  # 2 nats
    x, y = normals(num_samples, num_dims, correlation_for(bits, num_dims))
    if dense:
        x, y = rotated(x, y)
    # The scatter of 1,000 samples; and where coordinates nearly cancel, the noise of their ranks does not.
    wide = num_samples == 1000 or (dense and estimate is gaussian_copula_information)
    assert estimate(x, y) == pytest.approx(bits, abs=0.4 if wide else 0.08)


def test_increasing_maps_change_nothing_for_the_copula_alone():
    x, y = normals(4000, 10, correlation_for(3.0, 10))
    # ranks do not know of the maps
    assert gaussian_copula_information(*warped(x, y)) == pytest.approx(
        float(gaussian_copula_information(x, y)), abs=1e-9
    )
    assert gaussian_information(*warped(x, y)) < 2.0


def test_only_neighbors_see_what_is_not_monotone():
    x, y = folded(4000)
    assert ksg_information(x, y) == pytest.approx(bits_of_folded(), abs=0.1)
    assert seed_information(x, y) == pytest.approx(bits_of_folded(), abs=0.1)
    for estimate in GAUSSIAN:
        assert estimate(x, y) == pytest.approx(0, abs=0.01)


def test_heavy_tails():
    x, y = student(4000, 0.6, degrees=4)
    truth = bits_of_student(0.6, 4)
    assert ksg_information(x, y) == pytest.approx(truth, abs=0.06)
    # the copula sees the correlation, not the common scale
    assert bits_of_normals(1, 0.5) < gaussian_copula_information(x, y) < truth


@pytest.mark.parametrize("estimate", GAUSSIAN)
@pytest.mark.parametrize(
    ("num_x", "num_y", "num_samples"), [(1, 1, 1000), (50, 50, 1000), (300, 200, 1000), (5, 200, 500)]
)
def test_independent_data_scatter_around_nothing(estimate, num_x, num_y, num_samples):
    generator = torch.Generator().manual_seed(3)
    values = torch.stack(
        [
            estimate(
                torch.randn(num_samples, num_x, generator=generator),
                torch.randn(num_samples, num_y, generator=generator),
            )
            for _ in range(10)
        ]
    )
    # of the plain estimate's excess, d_x d_y / 2n nats and more, nothing is left
    scatter = math.sqrt(num_x * num_y / 2) / num_samples / math.log(2) / (1 - (num_x + num_y) / num_samples)
    assert abs(values.mean()) < 4 * scatter / math.sqrt(10)
    assert values.std() < 3 * scatter


@pytest.mark.parametrize("estimate", GAUSSIAN)
def test_columns_that_say_nothing_new_change_nothing(estimate):
    x, y = normals(1000, 3, 0.7)
    padded = torch.cat([x, torch.zeros(1000, 40), torch.full((1000, 1), 0.1), 2 * x[:, :1] + 1], dim=1)
    assert estimate(padded, y) == pytest.approx(float(estimate(x, y)), abs=1e-4)
    assert estimate(torch.full((1000, 3), 0.1), y) == 0


def test_the_seed_changes_where_nothing_changed():
    x, y = normals(1000, 1, 0.9)
    padded = torch.cat([x, torch.zeros(1000, 3)], dim=1)
    assert seed_information(padded, y) == pytest.approx(float(seed_information(x, y)) / 4, rel=0.02)


def test_the_seed_is_scikit_learns_in_bits():
    x, y = normals(500, 2, 0.8)
    nats = mutual_info_regression(x.numpy(), y[:, 0].numpy(), random_state=0).mean()
    assert seed_information(x, y) == pytest.approx(nats / math.log(2))


@pytest.mark.parametrize("estimate", GAUSSIAN)
def test_too_few_samples_are_nan(estimate):
    with pytest.warns(UserWarning, match="20 samples are too few for 20 dimensions"):
        assert estimate(*normals(20, 10, 0.5)).isnan()
    with pytest.warns(UserWarning, match="expect errors of a bit"):
        assert estimate(*normals(30, 10, 0.5)).isfinite()


@pytest.mark.parametrize("estimate", GAUSSIAN)
def test_determined_vectors_are_nan(estimate):
    x, _ = normals(500, 3, 0.0)
    with pytest.warns(UserWarning, match="infinite; declare a noise"):
        assert estimate(x, x[:, :1] * 2 + 1).isnan()


def test_neighbors_warn_about_dimensions_and_repeats():
    with pytest.warns(UserWarning, match="use the Gaussian copula above three"):
        ksg_information(*normals(200, 4, 0.5))
    with pytest.warns(UserWarning, match="samples are repeated"):
        assert ksg_information(torch.arange(100.0)[:, None] // 10, torch.arange(100.0)[:, None] // 10).isnan()
    with pytest.warns(UserWarning, match="too few for 3 neighbors"):
        assert ksg_information(*normals(3, 1, 0.5)).isnan()


def test_rows_that_are_not_finite_are_left_out():
    x, y = normals(1000, 2, 0.8)
    broken, other = torch.cat([x, x[:2]]), torch.cat([y, y[:2]])
    broken[-1, 0], other[-2, 1] = math.nan, math.inf
    for estimate in (*GAUSSIAN, ksg_information, seed_information):
        assert estimate(broken, other) == estimate(x, y)


@pytest.mark.parametrize("estimate", [*GAUSSIAN, ksg_information, seed_information])
def test_shapes_that_disagree_raise(estimate):
    with pytest.raises(ValueError, match="must be"):
        estimate(torch.zeros(3, 1), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="must be"):
        estimate(torch.zeros(3), torch.zeros(3))


def test_certain_even_and_constant_answers():
    certain = 200 * torch.eye(8).repeat(3, 1)
    assert predictive_information(certain) == pytest.approx(3.0)
    assert predictive_information(torch.zeros(10, 8)) == pytest.approx(0, abs=1e-6)
    assert predictive_information(certain[:1].expand(10, 8)) == pytest.approx(0, abs=1e-6)
    assert usable_information(certain, torch.arange(8).repeat(3)) == pytest.approx(3.0)
    # sure of the wrong class: what is usable is far below nothing, what is predicted is as much as before
    assert usable_information(certain, torch.arange(8).roll(1).repeat(3)) < -200


def test_classes_that_are_impossible_have_no_part():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    masked = torch.cat([logits, torch.full((20, 2), -math.inf)], dim=1)
    assert predictive_information(masked) == pytest.approx(float(predictive_information(logits)), abs=1e-6)
    labels = torch.arange(20) % 5
    assert usable_information(masked, labels) == pytest.approx(float(usable_information(logits, labels)), abs=1e-6)


def test_predictions_that_are_not_finite_are_left_out():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(20) % 5
    broken = torch.cat([logits, logits[:3]])
    broken[-3, 1], broken[-2, 2], broken[-1] = math.nan, math.inf, -math.inf
    assert predictive_information(broken) == predictive_information(logits)
    ignored = torch.cat([labels, labels[:3]])
    assert usable_information(broken, ignored) == usable_information(logits, labels)


def test_predictions_of_bad_shape_raise():
    with pytest.raises(ValueError, match="K >= 2"):
        predictive_information(torch.zeros(10, 1))
    with pytest.raises(ValueError, match="labels must be integers"):
        usable_information(torch.zeros(10, 3), torch.zeros(9, dtype=torch.long))
    with pytest.raises(ValueError, match="labels must be integers"):
        usable_information(torch.zeros(10, 3), torch.zeros(10))
