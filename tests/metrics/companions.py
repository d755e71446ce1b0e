"""One process of two that compute companions together; a module of its own so that the other can import it."""

import torch
import torch.distributed as dist

from intensive_callbacks.metrics import GeneralizationEfficiency, IntelligenceDensity, QueryContentCoupling


def companions(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    density, coupling = IntelligenceDensity(num_bytes=1e9), QueryContentCoupling()
    curve = GeneralizationEfficiency(num_samples=8)
    for start in (rank,) if rank == 0 else (1, 2):
        density.update(0.5 + 0.1 * start, num_examples=10)
        values = torch.arange(4.0) + start
        coupling.update(values, values.flip(0) ** 2 if start == 2 else values)
    curve.update(torch.tensor([1e3, 3e3, 1e4, 1e5])[rank::2], torch.tensor([0.5, 0.6, 0.7, 0.8])[rank::2].double())
    results[rank] = (
        density.standard_error().item(),
        coupling.rank_correlation().item(),
        coupling.regret().item(),
        curve.learning_curve().exponent,
    )
    assert density.num_examples == 10 * (1 + rank)  # its own again
    dist.destroy_process_group()
