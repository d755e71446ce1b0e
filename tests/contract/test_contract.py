"""Every metric through every invariant."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.wrappers import BootStrapper

from contract.cases import CASES
from intensive_callbacks import cards, metrics


def run(metric, updates):
    for update in updates:
        metric.update(**update)
    return metric.compute()


def in_full_precision(case):
    return case.build().set_dtype(torch.float64)


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
    named = {card.metric.partition(".")[2] for card in cards.CARDS if card.metric}
    assert {case.name for case in CASES} == exported
    assert named <= exported


def test_class_and_card_agree_on_the_direction():
    for card in cards.CARDS:
        if card.metric:
            metric = getattr(metrics, card.metric.partition(".")[2])
            assert metric.higher_is_better is {"higher": True, "lower": False, "neither": None}[card.better], card.key


def test_value_by_hand(case):
    assert_expected(case, run(case.build(), case.updates))


def test_function_by_hand(case):
    assert_expected(case, case.function(**case.arguments))


def test_function_takes_what_update_takes(case):
    taken = set(inspect.signature(case.build().update).parameters)
    assert {"inputs", *case.arguments} <= {"inputs", *taken}


def test_split_of_the_data_does_not_matter(case):
    whole, split = run(in_full_precision(case), [case.whole]), run(in_full_precision(case), case.updates)
    torch.testing.assert_close(whole, split, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_order_of_the_data_does_not_matter(case):
    if case.ordered:
        pytest.skip("a quantity of sequences")
    forwards = run(in_full_precision(case), case.updates)
    backwards = run(in_full_precision(case), case.updates[::-1])
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


def test_no_graph_is_kept_by_the_bare_update(case):
    metric = case.build()
    for update in case.updates:
        type(metric).update(metric, **convert(update, lambda value: value.float().requires_grad_()))
    states = [state for state in metric.metric_state.values() if isinstance(state, torch.Tensor)]
    assert not any(state.requires_grad for state in states)


def test_value_is_float32_unless_asked_for(case):
    assert run(case.build(), case.updates).dtype == torch.float32
    assert run(in_full_precision(case), case.updates).dtype == torch.float64


@pytest.fixture
def plt():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


def test_plot_of_a_value_and_of_a_sequence(case, plt):
    metric = case.build()
    value = run(metric, case.updates)
    for shown in (None, value, [value, value]):
        _, axes = metric.plot(shown)
        assert axes.has_data()
        plt.close("all")


def test_plot_has_the_bounds(case, plt):
    metric = case.build()
    if run(metric, case.updates).dim():
        pytest.skip("a matrix is an image")
    _, axes = metric.plot()
    drawn = {y for lines in axes.collections for segment in lines.get_segments() for _, y in segment}
    assert {metric.plot_lower_bound, metric.plot_upper_bound} - {None} <= drawn


def test_repr_shows_the_arguments(case):
    metric = case.build()
    shown = repr(metric)
    for name, parameter in inspect.signature(type(metric)).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD and getattr(metric, name) != parameter.default:
            assert f"{name}={getattr(metric, name)!r}" in shown
    assert shown in repr(MetricCollection({"metric": metric}))
    assert shown == repr(pickle.loads(pickle.dumps(metric)))


def test_bootstrap_with_tensor_quantiles(case):
    if not all(isinstance(value, torch.Tensor) and value.dim() for value in case.whole.values()):
        pytest.skip("a BootStrapper resamples tensors")
    torch.manual_seed(0)
    levels = torch.tensor([0.05, 0.95])
    bootstrap = BootStrapper(case.build(), num_bootstraps=10, quantile=levels, raw=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of so few examples may leave nothing
        bootstrap.update(**case.whole)
        values = bootstrap.compute()
    expected = np.quantile(values["raw"].double().numpy(), levels.double().numpy())
    np.testing.assert_allclose(values["quantile"].numpy(), expected, rtol=1e-5)


def test_model_holding_it_can_be_scripted(case):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.metric = torch.nn.Linear(3, 2), case.build()

        def forward(self, x):
            return self.layer(x)

    model, x = Model(), torch.ones(1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still exported to
        assert torch.equal(torch.jit.script(model)(x), model(x))


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
