import math

import pytest
import torch

from intensive_callbacks.functional import learning_curve

SIZES = torch.tensor([1e3, 2e3, 5e3, 1e4, 3e4, 1e5], dtype=torch.float64)


def curve(exponent, scale, floor, sizes=SIZES):
    return 1 - (scale * sizes**-exponent + floor)


@pytest.mark.parametrize("exponent", [0.07, 0.35, 0.5, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_an_exact_law_is_found(exponent, floor):
    law = learning_curve(SIZES, curve(exponent, 0.4 * 1000**exponent, floor))
    assert law.exponent == pytest.approx(exponent, rel=1e-3)
    assert law.floor == pytest.approx(floor, abs=1e-3)
    assert law.scale == pytest.approx(0.4 * 1000**exponent, rel=1e-2)
    assert law.low == pytest.approx(exponent, rel=2e-3)
    assert law.high == pytest.approx(exponent, rel=2e-3)


def test_the_exponent_of_the_accuracy_is_another_number():
    accuracy = curve(0.35, 2.0, 0.05)
    slope = torch.linalg.lstsq(
        torch.stack([SIZES.log(), torch.ones_like(SIZES)], dim=1), accuracy.log()[:, None]
    ).solution[0]
    assert slope < 0.05
    assert learning_curve(SIZES, accuracy).exponent == pytest.approx(0.35, rel=1e-3)


def test_learning_curve_interval_has_its_coverage():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(3, 6, 10, dtype=torch.float64)
    true = curve(0.35, 4.0, 0.05, sizes)
    held = 0
    for _ in range(200):
        measured = true + 0.002 * torch.randn(10, generator=generator, dtype=torch.float64)
        law = learning_curve(sizes, measured, confidence=0.9)
        assert law.low <= law.high
        held += law.low <= 0.35 <= law.high
    assert 166 <= held <= 194  # 180 +- 3.3 standard deviations of a binomial


def test_an_interval_of_four_sizes_is_as_wide_as_it_must_be():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(3, 6, 4, dtype=torch.float64)
    true = curve(0.35, 4.0, 0.05, sizes)
    held = 0
    for _ in range(200):
        law = learning_curve(sizes, true + 0.003 * torch.randn(4, generator=generator, dtype=torch.float64))
        held += law.low <= 0.35 <= law.high or math.isnan(law.low)
    assert held >= 180


@pytest.mark.parametrize(
    ("sizes", "accuracy"),
    [
        (SIZES[:3], curve(0.35, 2.0, 0.0)[:3]),  # three sizes
        (SIZES[:4] ** 0.5, curve(0.35, 2.0, 0.0)[:4]),  # less than a decade
        (SIZES, torch.full_like(SIZES, 0.5)),  # no law
        (SIZES, curve(-0.1, 0.1, 0.0)),  # more data makes it worse
        (SIZES, SIZES * math.nan),
    ],
)
def test_no_law_is_nan(sizes, accuracy):
    assert all(math.isnan(value) for value in learning_curve(sizes, accuracy))


def test_global_generator_is_untouched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    learning_curve(SIZES, curve(0.35, 2.0, 0.05) + 0.001 * torch.arange(6))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_sizes", [4, 5, 6, 8, 12])
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_interval_covers_for_any_number_of_sizes(num_sizes, floor):
    generator = torch.Generator().manual_seed(num_sizes)
    sizes = torch.logspace(3, 6, num_sizes, dtype=torch.float64)
    true = curve(0.35, 4.0, floor, sizes)
    held = total = 0
    for _ in range(200):
        law = learning_curve(sizes, true + 0.002 * torch.randn(num_sizes, generator=generator, dtype=torch.float64))
        if not math.isnan(law.low):
            total += 1
            held += law.low <= 0.35 <= law.high
    assert held >= 0.9 * total  # 95 % less three binomial standard errors
    assert total > 150


def test_num_resamples_is_deprecated():
    with pytest.warns(DeprecationWarning, match="ignores num_resamples"):
        learning_curve(SIZES, curve(0.35, 2.0, 0.05), num_resamples=10)
