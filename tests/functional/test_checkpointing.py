import math

import pytest

from intensive_callbacks.functional import (
    checkpoint_tradeoff,
)


def test_checkpointing_memory_and_recomputation():
    assert checkpoint_tradeoff(64) == (16, 56)
    assert checkpoint_tradeoff(64, segment=64) == (65, 63)
    assert checkpoint_tradeoff(64, segment=1) == (65, 0)
    for num_layers in (1, 2, 10, 97):
        memory, recomputed = checkpoint_tradeoff(num_layers)
        assert memory == min(checkpoint_tradeoff(num_layers, k)[0] for k in range(1, num_layers + 1))
        assert memory <= 2 * math.sqrt(num_layers) + 1
        assert recomputed < num_layers
    for arguments in ((0,), (5, 0), (5, 6)):
        with pytest.raises(ValueError, match="must"):
            checkpoint_tradeoff(*arguments)
