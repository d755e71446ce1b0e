"""Each quantity against another way to write it, in plain Python, over random inputs."""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.functional import pearson_corrcoef

from intensive_callbacks import functional as F
from intensive_callbacks.metrics import (
    EffectiveCompressionRatio,
    IntelligenceDensity,
    PerformancePerParameter,
    QueryContentCoupling,
    RelevanceRealizationRate,
)

settings.register_profile("metrics", max_examples=50, deadline=None)
settings.load_profile("metrics")

fraction = st.floats(0, 1)
size = st.floats(1, 1e13)
baseline = st.floats(0.001, 0.999)


def near(value, expected, rel=1e-9, abs=1e-12):  # noqa: A002 - pytest's own name
    return float(value) == pytest.approx(float(expected), rel=rel, abs=abs, nan_ok=True)


@given(fraction, size, baseline)
def test_efficiency(accuracy, cost, chance):
    points = accuracy * 100
    assert near(F.performance_per_parameter(accuracy, cost), points / cost * 1_000_000_000)
    assert near(F.performance_per_flop(accuracy, cost), points / cost * 1_000_000_000_000)
    assert near(F.memory_efficiency_ratio(accuracy, cost), points / cost * 1_000_000_000)
    wrong = (1 - accuracy) / (1 - chance)
    corrected = F.performance_per_parameter(accuracy, cost, chance_corrected=True, random_baseline=chance)
    assert near(corrected, 100 * (1 - wrong) / cost * 1_000_000_000, abs=1e-9 / cost * 1e11)


@given(st.floats(0, 0.999), size, baseline, st.floats(1.5, 10))
def test_intelligence_density(accuracy, num_bytes, chance, base):
    nats = -math.log1p(-accuracy)
    assert near(F.intelligence_density(accuracy, num_bytes), nats / num_bytes * 1e9, rel=1e-6)
    excess = F.intelligence_density(accuracy, num_bytes, base=base, chance_corrected=True, random_baseline=chance)
    assert near(excess, (nats + math.log1p(-chance)) / math.log(base) / num_bytes * 1e9, rel=1e-6, abs=1e-6)


@given(fraction, st.floats(1, 1e12), fraction, baseline)
def test_shares(accuracy, total, share, chance):
    active = share * total
    assert near(F.relevance_realization_rate(accuracy, total, active, chance), accuracy / chance * share)
    assert near(F.sparsity_adjusted_accuracy(accuracy, total, active), accuracy - accuracy * share, abs=1e-9)


@given(st.lists(st.lists(st.integers(-1, 5), min_size=3, max_size=3), max_size=20), st.data())
def test_configuration_entropy(ids, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    counts = Counter(i for row, keep in zip(ids, mask, strict=True) for i in row if keep and i >= 0)
    total = sum(counts.values())
    bits = -sum(count / total * math.log2(count / total) for count in counts.values())
    value = F.configuration_entropy_score(
        torch.tensor(ids, dtype=torch.long).reshape(-1, 3), 6, torch.tensor(mask, dtype=torch.bool)
    )
    assert near(value, bits / math.log2(6) if total else math.nan)


@given(size, size, st.floats(1, 100))
def test_chinchilla(num_params, num_tokens, tokens_per_param):
    index = F.chinchilla_optimality_index(num_params, num_tokens, tokens_per_param)
    assert near(index, num_params * tokens_per_param / num_tokens)


@given(st.floats(1e7, 1e12), st.floats(1e8, 1e14))
@settings(max_examples=20)
def test_the_chinchilla_optimum_is_the_least_of_a_fine_grid(num_params, num_tokens):
    compute = num_params * num_tokens
    ratios = torch.logspace(-4, 4, 4001, dtype=torch.float64)
    params = math.sqrt(compute) * ratios
    losses = F.chinchilla_loss(params, compute / params)
    best, _ = F.chinchilla_optimum(num_params, num_tokens)
    if 1e-3 < best / math.sqrt(compute) < 1e3:
        assert near(best, params[losses.argmin()].item(), rel=0.005)
    excess = F.chinchilla_excess_loss(num_params, num_tokens).item()
    assert excess >= -1e-12
    assert near(excess, (F.chinchilla_loss(num_params, num_tokens) - losses.min()).item(), abs=1e-5)


@given(st.lists(st.tuples(st.integers(1, 10**6), fraction), min_size=1, max_size=12))
def test_generalization_efficiency(pairs):
    by_size = {}
    for examples, accuracy in pairs:
        by_size.setdefault(examples, []).append(accuracy)
    curve = sorted((math.log(examples), sum(values) / len(values)) for examples, values in by_size.items())
    half = max(by_size) / 2
    expected = math.nan
    if min(by_size) <= half:
        for (x0, y0), (x1, y1) in pairwise(curve):
            if x0 <= math.log(half) <= x1:
                at_half = y0 + (y1 - y0) * (math.log(half) - x0) / (x1 - x0)
        expected = 100 * (curve[-1][1] - at_half) / half
    sizes, accuracies = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    assert near(F.generalization_efficiency(sizes, accuracies), expected, rel=1e-6, abs=1e-12)


def random_pairs(seed, num_rows=6, num_patches=9, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randn(num_rows, num_patches, generator=generator, dtype=torch.float64) + offset
    tokens = torch.randn(num_rows, num_patches, generator=generator, dtype=torch.float64).exp() * 100 + relevance
    return relevance, tokens


@given(st.integers(0, 10**6), st.sampled_from([0.0, 10.0, 1e4]))
def test_query_content_coupling(seed, offset):
    relevance, tokens = random_pairs(seed, offset=offset)
    metric = QueryContentCoupling()
    for row, budget in zip(relevance, tokens, strict=True):
        metric.update(row, budget)
    peers = torch.stack([pearson_corrcoef(row, budget) for row, budget in zip(relevance, tokens, strict=True)])
    pooled = stats.pearsonr(relevance.flatten(), tokens.flatten())
    assert near(F.query_content_coupling(relevance, tokens), pearson_corrcoef(relevance.flatten(), tokens.flatten()))
    assert near(F.query_content_coupling(relevance, tokens), pooled.statistic)
    assert near(metric.compute(), pooled.statistic, abs=1e-6)
    # nine patches each, so the images weigh the same
    assert near(F.per_image_coupling(relevance, tokens), math.tanh(peers.atanh().mean()), rel=1e-6)
    assert near(metric.per_image(), math.tanh(peers.atanh().mean()), abs=1e-5)
    spearman = stats.spearmanr(relevance.flatten(), tokens.flatten()).statistic
    assert near(F.rank_coupling(relevance, tokens), spearman)
    assert near(metric.rank_correlation(), spearman)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 1000))
def test_ties_share_their_rank(values, seed):
    other = torch.randint(4, (len(values),), generator=torch.Generator().manual_seed(seed)).double()
    first = torch.tensor(values, dtype=torch.float64)
    if len(set(values)) > 1 and other.unique().numel() > 1:
        assert near(F.rank_coupling(first, other), stats.spearmanr(first, other).statistic, abs=1e-9)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=9))
def test_allocation_regret(pairs):
    relevance, tokens = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    expected = stats.entropy(relevance, tokens, base=2)
    assert near(F.allocation_regret(relevance, tokens), expected, abs=1e-9)


@given(st.integers(2, 12), st.integers(1, 40), st.floats(0.1, 20), st.integers(0, 10**6))
def test_informations_of_a_classifier(num_classes, num_rows, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    predictions = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    joint = predictions / num_rows  # of a row and the class drawn for it
    independent = joint.sum(0) * joint.sum(1, keepdim=True)
    mutual = sum(
        p * math.log2(p / q) for p, q in zip(joint.flatten().tolist(), independent.flatten().tolist(), strict=True) if p
    )
    shares = [count / num_rows for count in Counter(labels.tolist()).values()]
    surprise = [-math.log2(row[label]) for row, label in zip(predictions.tolist(), labels.tolist(), strict=True)]
    usable = -sum(share * math.log2(share) for share in shares) - sum(surprise) / num_rows
    assert near(F.predictive_information(logits), mutual, rel=1e-6, abs=1e-9)
    assert near(F.usable_information(logits, labels), usable, rel=1e-6, abs=1e-9)
    metric = EffectiveCompressionRatio(num_params=1024, num_classes=16)
    for part, answers in zip(logits.split(7), labels.split(7), strict=True):
        metric.update(None, part, answers)
    assert near(metric.information(), mutual, rel=1e-6, abs=1e-9)
    assert near(metric.usable_information(), usable, rel=1e-6, abs=1e-9)
    assert near(metric.compute(), mutual / 10, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "build",
    [
        lambda: PerformancePerParameter(num_params=1e9),
        lambda: RelevanceRealizationRate(total_params=10, active_params=3, random_baseline=0.1),
        lambda: IntelligenceDensity(num_bytes=1e9),
    ],
)
def test_standard_error_is_the_scatter_of_repetitions(build):
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(400):
        metric = build()
        metric.update(torch.bernoulli(torch.full((500,), 0.8), generator=generator).mean().item(), num_examples=500)
        values.append(metric.compute())
    truth = build()
    truth.update(0.8, num_examples=500)
    assert near(truth.standard_error(), torch.stack(values).std().item(), rel=0.12)


def test_standard_error_of_qc3_is_the_scatter():
    generator = torch.Generator().manual_seed(0)
    values, errors = [], []
    for _ in range(300):
        x = torch.randn(100, generator=generator)
        metric = QueryContentCoupling()
        metric.update(x, 0.6 * x + 0.8 * torch.randn(100, generator=generator))
        values.append(metric.compute())
        errors.append(metric.standard_error())
    assert near(torch.stack(errors).mean(), torch.stack(values).std().item(), rel=0.12)
