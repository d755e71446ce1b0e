"""Every metric through every invariant."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch

from contract.cases import CASES
from intensive_callbacks import keys, metrics


def run(metric, updates):
    for update in updates:
        metric.update(**update)
    return metric.compute()


def convert(update, change):
    """The update with each floating value, number or tensor, changed."""
    return {
        name: change(torch.as_tensor(value))
        if isinstance(value, float) or (isinstance(value, torch.Tensor) and value.is_floating_point())
        else value
        for name, value in update.items()
    }


def assert_expected(case, value, tolerance=None):
    expected = torch.as_tensor(case.expected, dtype=torch.float64)
    torch.testing.assert_close(value.double(), expected, rtol=tolerance or case.tolerance, atol=1e-9, equal_nan=True)


def test_every_metric_has_a_case_and_every_card_a_metric():
    exported = {name for name in dir(metrics) if isinstance(getattr(metrics, name), type)}
    named = {card.metric.partition(".")[2] for card in keys.CARDS if card.metric}
    assert {case.name for case in CASES} == exported
    assert named <= exported


def test_value_by_hand(case):
    assert_expected(case, run(case.build(), case.updates))


def test_function_agrees_with_the_hand(case):
    assert_expected(case, case.function(**case.arguments))


def test_split_of_the_data_does_not_matter(case):
    whole, split = run(case.build(), [case.whole]), run(case.build(), case.updates)
    torch.testing.assert_close(whole, split, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_order_of_the_data_does_not_matter(case):
    if case.ordered:
        pytest.skip("a quantity of sequences")
    forwards, backwards = run(case.build(), case.updates), run(case.build(), case.updates[::-1])
    torch.testing.assert_close(forwards, backwards, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_no_data_is_nan(case):
    metric = case.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.as_tensor(metric.compute()).isnan().all()
        if case.empty is not None:
            metric.update(**case.empty)
            assert torch.as_tensor(metric.compute()).isnan().all()


def test_an_empty_batch_changes_nothing(case):
    if case.empty is None:
        pytest.skip("no empty batch exists")
    assert_expected(case, run(case.build(), [case.empty, *case.updates, case.empty]))


def test_undefined_is_nan(case):
    for updates in case.undefined:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert torch.as_tensor(run(case.build(), updates)).isnan().all()


def test_value_lies_in_its_bounds(case):
    value = run(case.build(), case.updates)
    assert (value >= case.bounds[0]).all()
    assert (value <= case.bounds[1]).all()


def test_reset_forgets(case):
    metric = case.build()
    run(metric, [*case.updates, *case.updates])
    metric.reset()
    assert_expected(case, run(metric, case.updates))


def test_clone_is_independent(case):
    metric = case.build()
    run(metric, case.updates)
    clone = metric.clone()
    metric.reset()
    assert_expected(case, clone.compute())


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric))])
def test_copies_carry_the_state(case, copy_of):
    metric = case.build()
    run(metric, case.updates)
    assert_expected(case, copy_of(metric).compute())


def test_state_dict_restores(case):
    metric, restored = case.build(), case.build()
    metric.persistent(mode=True)
    restored.persistent(mode=True)
    run(metric, case.updates)
    restored.load_state_dict(metric.state_dict(), strict=True)
    restored._update_count = metric._update_count
    assert_expected(case, restored.compute())


def test_state_is_not_in_the_state_dict_of_a_model(case):
    metric = case.build()
    run(metric, case.updates)
    assert metric.state_dict() == {}


def test_bfloat16_input_is_summed_in_full_precision(case):
    low = [convert(update, lambda value: value.to(torch.bfloat16)) for update in case.updates]
    same = [convert(update, lambda value: value.to(torch.bfloat16).to(torch.float64)) for update in case.updates]
    torch.testing.assert_close(run(case.build(), low), run(case.build(), same), rtol=1e-6, atol=1e-6, equal_nan=True)


def test_no_graph_is_kept(case):
    metric = case.build()
    value = run(metric, [convert(update, lambda value: value.float().requires_grad_()) for update in case.updates])
    states = [state for state in metric.metric_state.values() if isinstance(state, torch.Tensor)]
    assert not any(state.requires_grad for state in [value, *states])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no device")
def test_value_on_a_device(case):
    metric = case.build().to("cuda")
    on_device = [{k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in u.items()} for u in case.updates]
    value = run(metric, on_device)
    assert value.device.type == "cuda"
    assert_expected(case, value.cpu())


def test_function_compiles_to_one_graph(case):
    torch._dynamo.reset()
    compiled = torch.compile(case.function, backend="eager", fullgraph=True)
    assert_expected(case, compiled(**case.arguments))
