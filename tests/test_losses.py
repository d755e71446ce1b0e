import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from digits import load_example
from intensive_callbacks.losses import SparseAccuracyLoss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(32, 5, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(5, (32,), generator=GENERATOR)


def test_value_by_hand():
    # both right with 3/4, a quarter of the model active: ln(4/3) + 0.2 (1 - 0.75 * 0.75)
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(3.0)]])
    loss = SparseAccuracyLoss(alpha=0.2)(logits, torch.tensor([0, 1]), torch.tensor(0.25))
    assert loss.item() == pytest.approx(math.log(4 / 3) + 0.2 * (1 - 0.75 * 0.75), rel=1e-6)


def test_without_weight_it_is_the_cross_entropy():
    loss = SparseAccuracyLoss(alpha=0.0)(LOGITS, TARGET, torch.tensor(0.3))
    torch.testing.assert_close(loss, cross_entropy(LOGITS, TARGET))


def test_tokens_are_examples():
    whole = SparseAccuracyLoss()(LOGITS, TARGET, torch.tensor(0.3))
    torch.testing.assert_close(SparseAccuracyLoss()(LOGITS.view(4, 8, 5), TARGET.view(4, 8), torch.tensor(0.3)), whole)


def test_gradient_is_that_of_finite_differences():
    gate = torch.linspace(-1, 1, 6, dtype=torch.float64, requires_grad=True)

    def loss(logits, gate):
        return SparseAccuracyLoss(alpha=0.7)(logits, TARGET, gate.sigmoid().mean())

    assert torch.autograd.gradcheck(loss, (LOGITS.clone().requires_grad_(), gate))


def routed(alpha):
    """Gradient of a router that mixes two experts, of which the first costs nine times as much as the second."""
    torch.manual_seed(0)
    router, experts = torch.nn.Linear(4, 2), torch.nn.ModuleList([torch.nn.Linear(4, 5) for _ in range(2)])
    inputs = torch.randn(32, 4)
    gates = router(inputs).softmax(-1)
    logits = sum(gates[:, [index]] * expert(inputs) for index, expert in enumerate(experts))
    SparseAccuracyLoss(alpha)(logits, TARGET, (gates.mean(0) * torch.tensor([0.9, 0.1])).sum()).backward()
    return router.weight.grad


def test_router_gradient_depends_on_alpha():
    without, little, much = routed(0.0), routed(0.1), routed(0.2)
    assert (little - without).abs().max() > 1e-4
    torch.testing.assert_close(much - without, 2 * (little - without), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_invalid_alpha_raises(alpha):
    with pytest.raises(ValueError, match="at least 0"):
        SparseAccuracyLoss(alpha)


def test_ratio_per_layer_raises():
    with pytest.raises(ValueError, match="must be a scalar"):
        SparseAccuracyLoss()(LOGITS, TARGET, torch.tensor([0.3, 0.4]))


def test_training_shuts_gates_and_keeps_the_accuracy(capsys):
    rows = {(loss, alpha): values for loss, alpha, *values in load_example("02_sparse_accuracy_loss").main()}
    capsys.readouterr()
    dense = rows["counted, as in the source", 0.3]
    assert dense == rows["counted, as in the source", 1.0]  # its penalty has no gradient, so its weight is nothing
    accuracy, active, _ = dense
    assert active == 1.0
    for alpha in (0.3, 1.0):
        sparse_accuracy, sparse_active, _ = rows["SparseAccuracyLoss", alpha]
        assert sparse_active < 0.5
        assert sparse_accuracy > accuracy - 0.03
