"""Routing metrics of sums: of several layers at once, as a run stacks them, and of what is no id and no probability."""

import warnings

import pytest
import torch

from intensive_callbacks import metrics

LAYERS, TOKENS, EXPERTS = 3, 40, 5
IDS = [
    torch.stack([torch.randperm(EXPERTS, generator=torch.Generator().manual_seed(seed + i))[:2] for i in range(TOKENS)])
    for seed in (0, 100, 200)
]
LOGITS = [torch.randn(TOKENS, EXPERTS, generator=torch.Generator().manual_seed(seed)) for seed in range(LAYERS)]
COUNTING = [
    "ConfigurationEntropyScore",
    "DeadExperts",
    "DropRate",
    "EffectiveExperts",
    "LoadEntropy",
    "LoadVariation",
    "MaxViolation",
    "RoutingCoverage",
]
SCORING = ["ConditionalRoutingEntropy", "ExpertSpecialization", "RouterMargin"]
BOTH = ["RoutingConfidence", "SwitchBalance"]
NAMES = [*COUNTING, *SCORING, *BOTH, "RouterZ"]


def data(name, layer):
    if name in COUNTING:
        return (IDS[layer],)
    probabilities = LOGITS[layer].softmax(-1)
    return (LOGITS[layer],) if name == "RouterZ" else (IDS[layer], probabilities)[0 if name in BOTH else 1 :]


def counted(name):
    layers = [getattr(metrics, name)(EXPERTS).set_dtype(torch.float64) for _ in range(LAYERS)]
    for layer, metric in enumerate(layers):
        metric.update(*data(name, layer))
    return layers


@pytest.mark.parametrize("name", NAMES)
def test_stacked_sums_give_a_value_per_layer(name):
    layers = counted(name)
    together = getattr(metrics, name)(EXPERTS)
    for state in layers[0].metric_state:
        if state != "num_invalid":  # sums of valid data need not have it
            setattr(together, state, torch.stack([getattr(layer, state) for layer in layers]).double())
    value = type(together).compute(together)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, torch.stack([layer.compute() for layer in layers]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_merged_sums_may_lack_the_count_of_invalid(name):
    (first, *_), merged = counted(name), getattr(metrics, name)(EXPERTS).set_dtype(torch.float64)
    merged.merge_state({state: value for state, value in first.metric_state.items() if state != "num_invalid"})
    torch.testing.assert_close(merged.compute(), first.compute(), rtol=0, atol=0)


@pytest.mark.parametrize("name", [*COUNTING, *BOTH, "ExpertCoactivation"])
@pytest.mark.parametrize("wrong", [EXPERTS, 2**40, -2])
def test_id_that_is_no_expert_is_nan_and_named_once(name, wrong):
    metric = getattr(metrics, name)(EXPERTS)
    ids = IDS[0].clone()
    ids[7, 1] = wrong
    metric.update(ids, *(data(name, 0)[1:] if name in BOTH else ()))
    metric.update(IDS[1], *(data(name, 1)[1:] if name in BOTH else ()))
    with pytest.warns(UserWarning, match=rf"intensive_callbacks: {name} is undefined .*1 of expert_ids lay outside"):
        assert metric.compute().isnan().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute().isnan().all()


@pytest.mark.parametrize("name", [*SCORING, *BOTH])
def test_logits_for_probabilities_are_nan_and_named(name):
    metric = getattr(metrics, name)(EXPERTS)
    metric.update(*data(name, 0))
    assert 0 <= metric.compute() <= EXPERTS
    metric.update(*(data(name, 0)[:-1]), LOGITS[0])
    with pytest.warns(UserWarning, match=r"40 of .*probabilities .*softmax\(logits\)"):
        assert metric.compute().isnan()


def test_padding_may_hold_any_id_and_any_row():
    mask = torch.arange(TOKENS) < 30
    ids, rows = IDS[0].clone(), LOGITS[0].softmax(-1)
    ids[30:], rows[30:] = 99, float("nan")
    for name in BOTH:
        masked, cut = getattr(metrics, name)(EXPERTS), getattr(metrics, name)(EXPERTS)
        masked.update(ids, rows, mask)
        cut.update(ids[:30], rows[:30])
        torch.testing.assert_close(masked.compute(), cut.compute(), rtol=0, atol=0)


def test_rounded_probabilities_are_still_probabilities():
    rows = torch.randn(1000, 256, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for dtype in (torch.bfloat16, torch.float16):
        metric = metrics.ConditionalRoutingEntropy(256)
        metric.update(rows.to(dtype))
        full = metrics.ConditionalRoutingEntropy(256)
        full.update(rows)
        assert metric.compute() == pytest.approx(full.compute().item(), rel=1e-2)


def test_collapsed_router_with_one_bad_id_is_not_balanced():
    ids = torch.zeros(1000, 1, dtype=torch.int64)
    ids[0, 0] = 4
    for name in COUNTING:
        metric = getattr(metrics, name)(num_experts=4)
        metric.update(ids)
        with pytest.warns(UserWarning, match="expert_ids"):
            assert metric.compute().isnan()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no device")
@pytest.mark.parametrize("name", NAMES)
def test_update_does_not_wait_for_the_device(name):
    metric = getattr(metrics, name)(EXPERTS).to("cuda")
    arguments = [argument.cuda() for argument in data(name, 0)]
    mask = (torch.arange(TOKENS) < 30).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(*arguments)
        metric.update(*arguments, mask)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not metric.compute().isnan()
