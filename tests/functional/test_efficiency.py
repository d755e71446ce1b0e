import math

import pytest

from intensive_callbacks.functional import (
    net_score,
    parameter_flop_efficiency,
)


def test_parameter_flop_efficiency_falls_as_inverse_square():
    small = parameter_flop_efficiency(0.5, num_params=7e9, num_flops=14e9)
    large = parameter_flop_efficiency(0.5, num_params=70e9, num_flops=140e9)
    assert (small / large).item() == pytest.approx(100)
    drop = net_score(0.5, 7e9, 14e9) - net_score(0.5, 70e9, 140e9)
    assert drop.item() == pytest.approx(20)
    assert (net_score(1.0, 7e9, 14e9) - net_score(0.5, 7e9, 14e9)).item() == pytest.approx(40 * math.log10(2))
